"""Every event kind as the protocol declares it: required fields, defaults in order, message."""

from typing import Any

from events.event import RecallType
from events.version import server_version

THOUGHT = {"thought": ""}
RISK = {"security_risk": -1}
CONFIRMED = {"confirmation_state": "confirmed"}
LINES = {"start": 0, "end": -1}

ACTION_TABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "message": (
        {"content": "hello"},
        {"file_urls": None, "image_urls": None, "wait_for_response": False, **RISK},
        "hello",
    ),
    "system": (
        {"content": "be kind"},
        {"tools": None, "openhands_version": server_version(), "agent_class": None},
        "be kind",
    ),
    "run": (
        {"command": "ls"},
        {
            "is_input": False,
            **THOUGHT,
            "blocking": False,
            "is_static": False,
            "cwd": None,
            "hidden": False,
            **CONFIRMED,
            **RISK,
        },
        "Running command: ls",
    ),
    "run_ipython": (
        {"code": "1+1"},
        {**THOUGHT, "include_extra": True, **CONFIRMED, **RISK, "kernel_init_code": ""},
        "Running Python code interactively: 1+1",
    ),
    "read": (
        {"path": "a"},
        {**LINES, **THOUGHT, **RISK, "impl_source": "default", "view_range": None},
        "Reading file: a",
    ),
    "write": (
        {"path": "a", "content": "b"},
        {**LINES, **THOUGHT, **RISK},
        "Writing file: a",
    ),
    "edit": (
        {"path": "a"},
        {
            "command": "",
            "file_text": None,
            "old_str": None,
            "new_str": None,
            "insert_line": None,
            "content": "",
            "start": 1,
            "end": -1,
            **THOUGHT,
            **RISK,
            "impl_source": "oh_aci",
        },
        "",
    ),
    "browse": (
        {"url": "http://a"},
        {**THOUGHT, **RISK, "return_axtree": False},
        "I am browsing the URL: http://a",
    ),
    "browse_interactive": (
        {"browser_actions": "click(1)"},
        {**THOUGHT, "browsergym_send_msg_to_user": "", **RISK, "return_axtree": False},
        "I am interacting with the browser:\n```\nclick(1)\n```",
    ),
    "call_tool_mcp": (
        {"name": "clock"},
        {"arguments": {}, **THOUGHT, **RISK},
        "I am calling the tool:\n```\nclock\n```\nwith the arguments:\n```\n{}\n```",
    ),
    "delegate": (
        {"agent": "Helper", "inputs": {"task": "t"}},
        THOUGHT,
        "I'm asking Helper for help with this task.",
    ),
    "think": ({}, THOUGHT, "I am thinking...: "),
    "finish": (
        {},
        {"final_thought": "", "outputs": {}, **THOUGHT},
        "All done! What's next on the agenda?",
    ),
    "reject": ({}, {"outputs": {}, **THOUGHT}, "Task is rejected by the agent."),
    "recall": (
        {"recall_type": RecallType.KNOWLEDGE},
        {"query": "", **THOUGHT},
        "Retrieving content for: ",
    ),
    "change_agent_state": (
        {"agent_state": "paused"},
        THOUGHT,
        "Agent state changed to paused",
    ),
    "condensation": (
        {"forgotten_event_ids": [1, 2]},
        {
            "forgotten_events_start_id": None,
            "forgotten_events_end_id": None,
            "summary": None,
            "summary_offset": None,
        },
        "Condenser is dropping the events: [1, 2].",
    ),
    "condensation_request": ({}, {}, "Requesting a condensation of the conversation history."),
    "task_tracking": (
        {},
        {"command": "view", "task_list": [], **THOUGHT},
        "Clearing the task list.",
    ),
    "loop_recovery": ({}, {"option": 1}, ""),
    "null": ({}, {}, "No action"),
}

METADATA = {
    "exit_code": -1,
    "pid": -1,
    "username": None,
    "hostname": None,
    "working_dir": None,
    "py_interpreter_path": None,
    "prefix": "",
    "suffix": "",
}

OBSERVATION_TABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "run": (
        {"command": "ls"},
        {"metadata": METADATA, "hidden": False},
        "Command `ls` executed with exit code -1.",
    ),
    "run_ipython": ({"code": "1"}, {"image_urls": None}, "Code executed in IPython cell."),
    "read": ({"path": "a"}, {"impl_source": "default"}, "I read the file a."),
    "write": ({"path": "a"}, {}, "I wrote to the file a."),
    "edit": (
        {},
        {
            "path": "",
            "prev_exist": False,
            "old_content": None,
            "new_content": None,
            "impl_source": "llm_based_edit",
            "diff": None,
            "_diff_cache": None,
        },
        "I edited the file .",
    ),
    "browse": (
        {"url": "http://a", "trigger_by_action": "browse"},
        {
            "screenshot": "",
            "screenshot_path": None,
            "set_of_marks": "",
            "error": False,
            "goal_image_urls": [],
            "open_pages_urls": [],
            "active_page_index": -1,
            "dom_object": {},
            "axtree_object": {},
            "extra_element_properties": {},
            "last_browser_action": "",
            "last_browser_action_error": "",
            "focused_element_bid": "",
            "filter_visible_only": False,
        },
        "Visited http://a",
    ),
    "delegate": ({"outputs": {"a": 1}}, {}, ""),
    "error": ({}, {"error_id": ""}, "the content"),
    "agent_state_changed": ({"agent_state": "running"}, {"reason": ""}, ""),
    "turn_ended": ({"outcome": "done"}, {"reason": "", "open_from": 0}, ""),
    "user_rejected": ({}, {}, "the content"),
    "recall": (
        {"recall_type": RecallType.WORKSPACE_CONTEXT},
        {
            "repo_name": "",
            "repo_directory": "",
            "repo_branch": "",
            "repo_instructions": "",
            "runtime_hosts": {},
            "additional_agent_instructions": "",
            "date": "",
            "custom_secrets_descriptions": {},
            "conversation_instructions": "",
            "working_dir": "",
            "microagent_knowledge": [],
        },
        "Added workspace context",
    ),
    "mcp": ({}, {"name": "", "arguments": {}}, "the content"),
    "task_tracking": ({}, {"command": "", "task_list": []}, "the content"),
    "think": ({}, {}, "the content"),
    "condense": ({}, {}, "the content"),
    "success": ({}, {}, "the content"),
    "download": ({"file_path": "a"}, {}, "Downloaded the file at location: a"),
    "loop_detection": ({}, {}, ""),
    "null": ({}, {}, "No observation"),
}
SUCCESS = {"run": {"success": False}, "run_ipython": {"success": True}}
