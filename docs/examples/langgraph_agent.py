"""A graph of LangGraph as an agent: one node asks the model, the other has carried out what it calls.

Name it with agent_class = "langgraph_agent:GraphAgent"; it needs the package langgraph and the extra `llm`.
Address, key and name of the model are those in the user's settings.

LangGraph brings the client of LangSmith along, which sends every run, with all that was said, to that
service if LANGSMITH_TRACING=true stands in the server's environment. Unset, nothing is sent.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.messages.utils import convert_to_openai_messages
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    AuthenticationError,
    OpenAIError,
    RateLimitError,
    omit,
)

from runtime_stub import Agent, BadArguments, Turn, chat_messages
from runtime_stub.turn import Reason, ToolCall, TurnFailed, Window


@dataclass(frozen=True)
class Context:
    turn: Turn
    client: AsyncOpenAI


async def ask(state: MessagesState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the model; what it says goes into the graph's stream while it comes."""
    turn = runtime.context.turn
    tools: list[Any] = [
        {"name": one.name, "description": one.description, "parameters": dict(one.schema)}
        for one in turn.tools
    ]
    stream = await runtime.context.client.chat.completions.create(
        model=turn.settings.llm_model or "",
        messages=cast("Any", convert_to_openai_messages(state["messages"])),
        tools=[{"type": "function", "function": one} for one in tools] or omit,
        stream=True,
    )
    answer = AIMessageChunk(content="")
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                text = choice.delta.content or ""
                if text:
                    runtime.stream_writer(text)
                calls = [
                    tool_call_chunk(
                        index=part.index,
                        id=part.id,
                        name=part.function.name,
                        args=part.function.arguments,
                    )
                    for part in choice.delta.tool_calls or ()
                    if part.function is not None
                ]
                answer += AIMessageChunk(content=text, tool_call_chunks=calls)
    try:
        # `answer.tool_calls` would have what can be read of arguments that broke off.
        called = [
            tool_call(name=part["name"] or "", args=json.loads(part["args"] or "{}"), id=part["id"])
            for part in answer.tool_call_chunks
        ]
        message = AIMessage(content=answer.content, tool_calls=called)
    except ValueError as error:
        raise TurnFailed("The model called a tool wrongly.", Reason.MODEL_FAILED) from error
    return {"messages": [message]}


async def carry_out(state: MessagesState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Have the runtime do what the model calls for; what is wrong with a call is for the model."""
    turn = runtime.context.turn
    tools = {tool.name: tool for tool in turn.tools}
    results = []
    for call in cast("AIMessage", state["messages"][-1]).tool_calls:
        name, key = call["name"], call["id"] or ""
        try:
            action = tools[name].action(call["args"])
        except KeyError:
            result = f"There is no tool {name}. There are: {', '.join(tools)}."
        except BadArguments as error:
            result = str(error)
        else:
            result = (await turn.act(action, call=ToolCall(key, name))).content
        results.append(ToolMessage(result, tool_call_id=key))
    return {"messages": results}


def what_follows(state: MessagesState) -> str:
    return "carry_out" if cast("AIMessage", state["messages"][-1]).tool_calls else END


GRAPH = (
    StateGraph(MessagesState, Context)
    .add_node(ask)
    .add_node(carry_out)
    .add_edge(START, "ask")
    .add_conditional_edges("ask", what_follows)
    .add_edge("carry_out", "ask")
    .compile()
)


class GraphAgent(Agent):
    """Runs the graph once for each turn. Its state is the conversation: it needs no checkpointer."""

    # What the graph begins with follows from the history alone.
    resumes: ClassVar[bool] = True

    async def run(self, turn: Turn) -> None:
        """Answer. A stop cancels this: leaving the blocks ends the graph and its connections."""
        settings = turn.settings
        if not settings.llm_model:
            raise TurnFailed("No model is set; see the settings.", Reason.MODEL_UNREACHABLE)
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        exchanges = await turn.history.exchanges(Window(exchanges=20))
        state: Any = {"messages": chat_messages(exchanges, turn.cause)}
        try:
            # Nothing is repeated unseen: people are told at once, and may ask again.
            async with AsyncOpenAI(
                api_key=key, base_url=settings.llm_base_url, max_retries=0
            ) as client:
                steps = GRAPH.astream(
                    state, context=Context(turn, client), stream_mode=["custom", "updates"]
                )
                async with aclosing(steps):
                    await show(turn, steps)
        # The texts of these errors may quote the key: people are told ours.
        except AuthenticationError as error:
            raise TurnFailed("The key was not accepted.", Reason.MODEL_REFUSED_KEY) from error
        except RateLimitError as error:
            raise TurnFailed("The model is busy.", Reason.MODEL_BUSY) from error
        except APIConnectionError as error:
            raise TurnFailed("The model was not reached.", Reason.MODEL_UNREACHABLE) from error
        except OpenAIError as error:
            raise TurnFailed("The model failed.", Reason.MODEL_FAILED) from error


async def show(turn: Turn, steps: AsyncIterator[Any]) -> None:
    """Show what a node says as a text of its own, which is open only while that node speaks."""
    async with AsyncExitStack() as text:
        said = None
        async for kind, piece in steps:
            if kind == "updates":  # a node has ended
                await text.aclose()
                said = None
                continue
            said = said or await text.enter_async_context(turn.say())
            said.write(piece)
            await said.flush()
