"""What an error of a provider's means: how long is waited, and which words are its own."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic_ai.exceptions import ModelHTTPError

from runtime_stub.llm.faults import fault_of
from runtime_stub.turn import Reason


def refusal(status, body=None, **headers):
    """A provider's refusal."""
    return ModelHTTPError(status, "model-x", body, headers=headers)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "60"}, 60.0),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after-ms": "-5"}, None),
    ],
)
def test_a_wait_is_what_the_provider_names(headers, wait):
    fault = fault_of(refusal(429, **headers), "model-x")
    assert (fault.reason, fault.passes, fault.wait) == (Reason.MODEL_BUSY, True, wait)


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "61"},
        {"retry-after-ms": "60001"},
        {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)},
    ],
)
def test_a_wait_of_more_than_a_minute_is_not_waited(headers):
    fault = fault_of(refusal(503, **headers), "model-x")
    assert (fault.reason, fault.passes) == (Reason.MODEL_BUSY, False)


def test_a_rate_that_names_the_plan_and_its_billing_is_no_lack_of_credit():
    body = {"error": {"message": "check your plan and billing details", "code": 429}}
    assert fault_of(refusal(429, body), "model-x").passes


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "insufficient_quota"),
        (402, "anything"),
    ],
)
def test_an_account_without_credit_is_not_asked_again(status, said):
    fault = fault_of(refusal(status, {"error": {"code": said}}), "model-x")
    assert (fault.reason, fault.passes) == (Reason.MODEL_FAILED, False)
    assert "credit" in fault.text


@pytest.mark.parametrize(
    ("said", "reason", "expected"),
    [
        (
            "Country, region, or territory not supported",
            Reason.MODEL_FAILED,
            "region of this server",
        ),
        ("User location is not supported for the API use.", Reason.MODEL_FAILED, "region"),
        ("Input was flagged by moderation", Reason.MODEL_FAILED, "does not let the model"),
        ("Your spend limit is reached", Reason.MODEL_FAILED, "no credit left"),
        ("Your API key was reported as leaked.", Reason.MODEL_REFUSED_KEY, "this API key"),
        ("Project p does not have access to model gpt-x", Reason.MODEL_FAILED, "may not use"),
        ("PERMISSION_DENIED", Reason.MODEL_FAILED, "may not use the model model-x"),
        ("<html>Forbidden</html>", Reason.MODEL_FAILED, "status 403"),
        (None, Reason.MODEL_FAILED, "status 403"),
    ],
)
def test_a_403_is_told_by_what_the_provider_says_and_quotes_nothing_of_it(said, reason, expected):
    fault = fault_of(refusal(403, {"error": {"message": said, "key": "sk-planted"}}), "model-x")

    assert (fault.reason, fault.passes) == (reason, False)
    assert expected in fault.text
    assert not any(one in fault.text for one in ("planted", "Project p", "leaked", "html"))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "registry.ollama.ai/library/gemma does not support tools"),
        (404, "No endpoints found that support tool use."),
    ],
)
def test_a_model_that_cannot_call_tools_is_told_as_one(status, said):
    fault = fault_of(refusal(status, {"error": said}), "model-x")

    assert (fault.reason, fault.passes) == (Reason.MODEL_FAILED, False)
    assert "cannot call tools" in fault.text
