"""An Agent of pydantic-ai as an agent here: with a tool in Python, streamed, its history from the log.

Name it with agent_class = "pydantic_ai_agent:CalendarAgent"; pydantic-ai comes with the extra `llm`.
Address, key and name of the model are those in the user's settings.
"""

from datetime import date
from typing import ClassVar

import pydantic_ai
from openai import AsyncOpenAI
from pydantic_ai import ModelConnectionError, ModelHTTPError, RunContext
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from events.actions import MCPAction
from runtime_stub import Agent, Turn, chat_messages
from runtime_stub.turn import Reason, ToolCall, TurnFailed, Usage, Window

REASONS = {401: Reason.MODEL_REFUSED_KEY, 429: Reason.MODEL_BUSY}
"""The meaning of a provider's status; a 403 may be about the region, the model or the account as well."""
calendar = pydantic_ai.Agent[Turn, str](instructions="Answer briefly. Count days with your tool.")


@calendar.tool
async def days_between(context: RunContext[Turn], first: date, last: date) -> int:
    """Count the days from one date to another."""
    action = MCPAction(name="days_between", arguments={"first": str(first), "last": str(last)})
    call = ToolCall(context.tool_call_id or "", "days_between")
    # What the agent does by itself is recorded, so that people see it and the log has it.
    async with context.deps.doing(action, call=call) as step:
        days = (last - first).days
        step.result(f"{days} days")
    return days


class CalendarAgent(Agent):
    """Has pydantic-ai's Agent answer; each of its requests to the model is a text of its own."""

    # What the model is told follows from the history alone.
    resumes: ClassVar[bool] = True

    async def run(self, turn: Turn) -> None:
        """Answer. A stop cancels this: leaving the blocks closes the connection to the model."""
        settings = turn.settings
        if not settings.llm_model:
            raise TurnFailed("No model is set; see the settings.", Reason.MODEL_UNREACHABLE)
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        try:
            # Nothing is repeated unseen: people are told at once, and may ask again.
            async with AsyncOpenAI(
                api_key=key, base_url=settings.llm_base_url, max_retries=0
            ) as client:
                provider = OpenAIProvider(openai_client=client)
                await answer(turn, OpenAIChatModel(settings.llm_model, provider=provider))
        # The texts of these errors may quote the key: people are told ours.
        except ModelHTTPError as error:
            reason = REASONS.get(error.status_code, Reason.MODEL_FAILED)
            raise TurnFailed("", reason) from error
        except ModelConnectionError as error:
            raise TurnFailed("The model was not reached.", Reason.MODEL_UNREACHABLE) from error
        except AgentRunError as error:
            raise TurnFailed("The model failed.", Reason.MODEL_FAILED) from error


async def answer(turn: Turn, model: OpenAIChatModel) -> None:
    """Run the Agent, and show what its model says while it comes."""
    history = await told(turn)
    async with calendar.iter(message_history=history, model=model, deps=turn) as run:
        async for node in run:
            if calendar.is_model_request_node(node):
                # An answer that only calls tools shows nothing, and is no event.
                async with turn.say() as said, node.stream(run.ctx) as stream:
                    async for piece in stream.stream_text(delta=True, debounce_by=None):
                        said.write(piece)
                        await said.flush()
    used = run.usage
    turn.report(Usage(model.model_name, used.input_tokens, used.output_tokens))


async def told(turn: Turn) -> list[ModelMessage]:
    """Return the texts of the conversation; what is to be answered stands last."""
    messages: list[ModelMessage] = []
    exchanges = await turn.history.exchanges(Window(exchanges=20))
    for one in chat_messages(exchanges, turn.cause):
        match one:
            case {"role": "user", "content": str(text)}:
                messages.append(ModelRequest.user_text_prompt(text))
            case {"role": "assistant", "content": str(text)}:
                messages.append(ModelResponse(parts=[TextPart(text)]))
    return messages
