"""The agent that asks a language model, `LlmAgent`. Needs the extra `llm`; nothing imports it but by its name."""

from runtime_stub.llm.agent import LlmAgent

__all__ = ["LlmAgent"]
