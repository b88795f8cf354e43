from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    ConversationTrigger,
    MetadataChange,
    ProviderType,
    default_title,
)
from storage.errors import BadValue


def test_a_new_record_has_the_protocols_defaults():
    before = datetime.now(UTC)
    metadata = ConversationMetadata(conversation_id="c")

    values = metadata.model_dump()

    created_at = values.pop("created_at")
    assert before <= created_at <= datetime.now(UTC)
    assert created_at.tzinfo is UTC
    assert values == {
        "conversation_id": "c",
        "selected_repository": None,
        "user_id": None,
        "selected_branch": None,
        "git_provider": None,
        "title": None,
        "last_updated_at": None,
        "trigger": None,
        "pr_number": [],
        "llm_model": None,
        "accumulated_cost": 0.0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "last_message_at": None,
        "sandbox_id": None,
        "conversation_version": None,
        "custom": {},
    }


def test_a_record_is_one_json_object_with_moments_in_utc():
    metadata = ConversationMetadata(
        conversation_id="c",
        created_at=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        git_provider=ProviderType.AZURE_DEVOPS,
        trigger=ConversationTrigger.JIRA_DC,
    )

    text = metadata.model_dump_json()

    assert '"created_at":"2025-12-31T23:00:00Z"' in text
    assert '"git_provider":"azure_devops"' in text
    assert ConversationMetadata.model_validate_json(text) == metadata


def test_unknown_keys_of_older_records_are_dropped():
    metadata = ConversationMetadata.model_validate(
        {"conversation_id": "c", "github_user_id": "17", "selected_repository": "o/r"}
    )

    assert metadata.selected_repository == "o/r"
    assert "github_user_id" not in metadata.model_dump()


@pytest.mark.parametrize(
    "fields",
    [
        {"created_at": "2026-01-01T00:00:00"},
        {"created_at": "0001-01-01T00:00:00+05:00"},
        {"accumulated_cost": float("nan")},
        {"prompt_tokens": -1},
        {"total_tokens": 2**63},
        {"title": "\ud800"},
        {"custom": {"number": float("inf")}},
        {"custom": {"text": "\ud800"}},
        {"custom": {"object": object()}},
        {"git_provider": "sourceforge"},
    ],
)
def test_what_not_every_medium_can_hold_is_refused(fields):
    with pytest.raises(ValidationError):
        ConversationMetadata.model_validate({"conversation_id": "c"} | fields)


def test_a_field_is_validated_when_it_is_set():
    metadata = ConversationMetadata(conversation_id="c")

    with pytest.raises(ValidationError):
        metadata.total_tokens = -1


def test_a_change_keeps_the_fields_that_were_not_given():
    metadata = ConversationMetadata(conversation_id="c", title="t", selected_branch="main")

    changed = MetadataChange(title=None, total_tokens=3).apply_to(metadata)

    assert changed == metadata.checked_copy(title=None, total_tokens=3)
    assert (metadata.title, changed.selected_branch) == ("t", "main")


def test_a_change_knows_which_fields_were_given():
    assert MetadataChange().values() == {}
    assert MetadataChange(title=None, custom={}).values() == {"title": None, "custom": {}}


@pytest.mark.parametrize("field", ["conversation_id", "user_id", "created_at", "titel"])
def test_identity_and_unknown_fields_cannot_be_changed(field):
    with pytest.raises(ValidationError):
        MetadataChange.model_validate({field: "x"})


def test_a_change_cannot_be_changed():
    change = MetadataChange(title="t")

    with pytest.raises(ValidationError):
        change.title = "other"  # type: ignore[misc]


def test_a_copy_of_a_record_with_an_unholdable_value_names_the_field():
    metadata = ConversationMetadata(conversation_id="c")
    metadata.pr_number.append(-1)

    with pytest.raises(BadValue, match=r"^pr_number\.0: "):
        metadata.checked_copy()


def test_a_result_set_is_empty_by_default_and_serialises_its_records():
    assert ConversationMetadataResultSet().model_dump() == {"results": [], "next_page_id": None}
    page = ConversationMetadataResultSet(results=[ConversationMetadata(conversation_id="c")])
    assert page.model_dump()["results"][0]["conversation_id"] == "c"


def test_the_default_title_shows_five_characters_of_the_id():
    assert default_title("0123456789") == "Conversation 01234"
