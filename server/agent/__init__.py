"""The agent loop: drives one agent over one stream and survives whatever the agent does.

The loop takes in what the log brings and decides what it is: a message that waits in the inbox, a
command, the decision of a question (`decisions`). It has the driver begin turns, each marked in the
log by a recall (`recalls`), and told of their ends it begins the next. What an earlier loop left open
comes first (`recovery`). The journal appends whatever the loop itself has to say.
"""
