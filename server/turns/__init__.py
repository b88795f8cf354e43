"""One turn of an agent: what it appends, what bounds it, how it ends. Imported by server.agent.

The loop makes a LoggedTurn from a TurnContext (what the turns of one loop share) and the messages of
its Inbox. The agent writes texts (`writing`) and has actions carried out (`actions`) within `limits`;
both append to the stream. Sealing the turn ends both. Nothing here imports the loop.
"""
