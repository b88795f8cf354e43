"""How many loops a user may run, and who waits for one to end."""

from server.conversation import ServerConversation

Queue = dict[str, ServerConversation]


class LoopSlots:
    """Counts running loops per user; conversations that found no slot wait in order.

    Those with a message to answer come before those that are only watched. Pure bookkeeping: it
    starts and stops nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str | None, set[str]] = {}
        self._with_work: dict[str | None, Queue] = {}
        self._watching: dict[str | None, Queue] = {}
        self._closed = False
        self.held_back = False
        """Nobody is given a turn for now."""

    def take(self, conversation: ServerConversation) -> bool:
        """Take a slot and leave the queue; False when the user's limit is reached."""
        held = self._held.setdefault(conversation.user_id, set())
        if len(held) >= self._limit:
            return False
        held.add(conversation.conversation_id)
        self.forget(conversation)
        return True

    def give_back(self, conversation: ServerConversation) -> None:
        """End a loop's claim; no claim is no error."""
        held = self._held.get(conversation.user_id, set())
        held.discard(conversation.conversation_id)
        if not held:
            self._held.pop(conversation.user_id, None)

    def holds(self, conversation_id: str, user_id: str | None) -> bool:
        """Whether the conversation's loop starts, runs or stops."""
        return conversation_id in self._held.get(user_id, set())

    def anyone_holds(self) -> bool:
        """Whether any loop starts, runs or stops."""
        return bool(self._held)

    def wait(self, conversation: ServerConversation, *, has_work: bool) -> None:
        """Queue a conversation; once it has work to do it keeps that rank."""
        user_id, conversation_id = conversation.user_id, conversation.conversation_id
        if has_work:
            self._watching.get(user_id, {}).pop(conversation_id, None)
            self._with_work.setdefault(user_id, {}).setdefault(conversation_id, conversation)
        elif conversation_id not in self._with_work.get(user_id, {}):
            self._watching.setdefault(user_id, {}).setdefault(conversation_id, conversation)

    def waits(self, conversation: ServerConversation) -> bool:
        """Whether it is queued."""
        with_work = self._with_work.get(conversation.user_id, {})
        return conversation.conversation_id in with_work or self.only_watches(conversation)

    def only_watches(self, conversation: ServerConversation) -> bool:
        """Whether it is queued without a message to answer."""
        return conversation.conversation_id in self._watching.get(conversation.user_id, {})

    def next_waiting(self, user_id: str | None) -> ServerConversation | None:
        """The one that has waited longest; none after `close` and while turns are held back."""
        if self._closed or self.held_back:
            return None
        queue = self._with_work.get(user_id) or self._watching.get(user_id) or {}
        return next(iter(queue.values()), None)

    def forget(self, conversation: ServerConversation) -> None:
        """Take it out of the queue."""
        for queues in (self._with_work, self._watching):
            queue = queues.get(conversation.user_id)
            if queue is not None:
                queue.pop(conversation.conversation_id, None)
                if not queue:
                    del queues[conversation.user_id]

    def close(self) -> None:
        """Give nobody a turn any more."""
        self._closed = True
