"""An agent on OpenAI's SDK alone: it streams answers, and has what the model calls carried out.

Name it with agent_class = "openai_agent:ToolAgent"; the SDK comes with the extra `llm`. Address, key and
name of the model are those in the user's settings.
"""

import json
from typing import Any, ClassVar

from openai import (
    APIConnectionError,
    AsyncOpenAI,
    AuthenticationError,
    OpenAIError,
    RateLimitError,
    omit,
)

from runtime_stub import Agent, BadArguments, Turn, chat_messages
from runtime_stub.turn import Reason, ToolCall, TurnFailed, Usage, Window


class ToolAgent(Agent):
    """Asks the model, and asks again with what came of its calls, until it calls nothing more."""

    # What the model is told follows from the history alone.
    resumes: ClassVar[bool] = True

    async def run(self, turn: Turn) -> None:
        """Answer. A stop cancels this: leaving the blocks closes the connection to the model."""
        settings = turn.settings
        if not settings.llm_model:
            raise TurnFailed("No model is set; see the settings.", Reason.MODEL_UNREACHABLE)
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        exchanges = await turn.history.exchanges(Window(exchanges=20))
        messages = chat_messages(exchanges, turn.cause)
        try:
            # Nothing is repeated unseen: people are told at once, and may ask again.
            async with AsyncOpenAI(
                api_key=key, base_url=settings.llm_base_url, max_retries=0
            ) as client:
                while calls := await answer(turn, client, settings.llm_model, messages):
                    messages += [await carry_out(turn, call) for call in calls]
        # The texts of these errors may quote the key: people are told ours.
        except AuthenticationError as error:
            raise TurnFailed("The key was not accepted.", Reason.MODEL_REFUSED_KEY) from error
        except RateLimitError as error:
            raise TurnFailed("The model is busy.", Reason.MODEL_BUSY) from error
        except APIConnectionError as error:
            raise TurnFailed("The model was not reached.", Reason.MODEL_UNREACHABLE) from error
        except OpenAIError as error:
            raise TurnFailed("The model failed.", Reason.MODEL_FAILED) from error


async def answer(turn: Turn, client: AsyncOpenAI, model: str, messages: list[Any]) -> list[Any]:
    """Show an answer while it comes, add it to the messages, and return its calls."""
    tools: list[Any] = [
        {"name": one.name, "description": one.description, "parameters": dict(one.schema)}
        for one in turn.tools
    ]
    stream = await client.chat.completions.create(
        model=model,
        messages=messages,
        tools=[{"type": "function", "function": one} for one in tools] or omit,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    calls: dict[int, Any] = {}
    async with turn.say() as said, stream:
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                said.write(choice.delta.content or "")
                await said.flush()
                for part in choice.delta.tool_calls or ():
                    function = {"name": "", "arguments": ""}
                    new = {"id": part.id, "type": "function", "function": function}
                    function = calls.setdefault(part.index, new)["function"]
                    if part.function is not None:
                        function["name"] += part.function.name or ""
                        function["arguments"] += part.function.arguments or ""
    if usage is not None:
        turn.report(Usage(model, usage.prompt_tokens, usage.completion_tokens))
    called = list(calls.values())
    messages.append(
        {"role": "assistant", "content": text or None} | ({"tool_calls": called} if called else {})
    )
    return called


async def carry_out(turn: Turn, call: Any) -> Any:
    """Have the runtime do what the model calls for; what is wrong with the call is for the model."""
    tools = {tool.name: tool for tool in turn.tools}
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    try:
        action = tools[name].action(json.loads(arguments or "{}"))
    except KeyError:
        result = f"There is no tool {name}. There are: {', '.join(tools)}."
    except (BadArguments, ValueError) as error:
        result = str(error)
    else:
        result = (await turn.act(action, call=ToolCall(call["id"], name))).content
    return {"role": "tool", "tool_call_id": call["id"], "content": result}
