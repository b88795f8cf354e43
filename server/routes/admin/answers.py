"""How the administration's answers are written."""

from pydantic import BaseModel

from server.routes.request import JsonResponse


def answer(model: BaseModel) -> JsonResponse:
    """A model as JSON."""
    return JsonResponse(model.model_dump())
