/**
 * Shapes that travel between the modules. Nothing here runs.
 *
 * @typedef {object} Info One conversation as the server lists it.
 * @property {string} conversation_id
 * @property {string} title
 * @property {string | null} last_updated_at Of any event, be it only that its agent started.
 * @property {string | null} last_message_at
 * @property {string} created_at
 * @property {"STARTING" | "RUNNING" | "STOPPED" | "ARCHIVED" | "ERROR"} status
 * @property {string | null} [selected_repository]
 *
 * @typedef {object} ListFilter What the list shows; "" leaves a criterion out.
 * @property {string} text Part of the title.
 * @property {string} repository
 * @property {string} trigger
 * @property {string} since ISO time.
 *
 * @typedef {object} Found A place where words were said.
 * @property {string} conversation_id
 * @property {string} title
 * @property {number | null} event_id null for a title.
 * @property {{text: string, found: boolean}[]} snippet
 *
 * @typedef {object} Order What a conversation begins with.
 * @property {string} [initial_user_msg]
 * @property {string} [repository]
 * @property {string} [selected_branch]
 *
 * @typedef {{events: Event[], more: boolean}} EventsPage Oldest first; whether there are older ones.
 *
 * @typedef {{id: string, answer: Promise<[Info | null, EventsPage]>}} Opening A conversation that is requested.
 *
 * @typedef {{title: string, message: string}} Example A message to begin with, and what comes of it.
 *
 * @typedef {object} Removal A deletion held back; `sent` when it cannot be undone any more.
 * @property {string} id
 * @property {string} title
 * @property {boolean} wasOpen
 * @property {boolean} [sent]
 *
 * @typedef {object} Event One `oh_event` payload: a stored event, or a status update.
 * @property {number | string} [id]
 * @property {string} [timestamp]
 * @property {string} [source]
 * @property {string} [message]
 * @property {number} [cause]
 * @property {string} [action]
 * @property {string} [observation]
 * @property {Record<string, any>} [args]
 * @property {string} [content]
 * @property {Record<string, any>} [extras]
 * @property {string} [client_id]
 * @property {Record<string, any>} [llm_metrics]
 * @property {boolean} [status_update]
 * @property {boolean} [success] On command observations.
 * @property {boolean} [error]
 * @property {string} [type]
 * @property {string} [conversation_title]
 * @property {string} [partial] The partial that it completes.
 * @property {string} [interrupted] Why its text is not whole.
 * @property {number} [turn] The turn in which the agent appended it.
 * @property {string} [edited_by] Who changed the action when agreeing to it.
 *
 * @typedef {object} Partial A text that is being written, as far as it was sent.
 * @property {string} id
 * @property {string} kind Of the event that it will be part of.
 * @property {string} field Which holds the text.
 * @property {number} turn -1 when unknown.
 * @property {string} text
 * @property {number} characters In code points, as the server counts them.
 *
 * @typedef {{type: "text", id: string, at: number, to: number, text: string, kind?: string, field?: string, turn?: number}} TextDelta
 * @typedef {TextDelta
 *   | {type: "open", partials: {id: string, kind: string, field: string, turn: number, at: number}[]}
 *   | {type: "dropped", id: string, why: string}} Delta One `oh_delta` payload.
 *
 * @typedef {object} ClientEvent What the page sends.
 * @property {string} action
 * @property {Record<string, any>} args
 * @property {string} client_id
 *
 * @typedef {{status: "ok", id: number, duplicate: boolean, queued?: boolean}
 *   | {status: "error", code: string, message: string}} Ack
 *
 * @typedef {{code: string, message: string}} Refusal Why a command was not accepted.
 *
 * @typedef {object} Pending A message of ours that the log has not shown back yet.
 * @property {ClientEvent} event
 * @property {"waiting" | "sending" | "stored" | "queued" | "failed"} stage
 * @property {number} [eventId] Known once the server has stored it.
 * @property {string} [reason] Why it failed.
 *
 * @typedef {object} Entry One thing drawn in the transcript.
 * @property {number} id Id of its first event.
 * @property {string} name Kind of the action, or of an observation that stands alone.
 * @property {string} source
 * @property {string} at ISO time.
 * @property {Event | null} action
 * @property {Event | null} observation
 * @property {boolean} [retry] Whether it offers to try again: the agent rests because of it.
 * @property {boolean} [continues] Whether it offers to go on: the agent rests, and its text is not whole.
 * @property {boolean} [asks] Whether it waits for a person's decision.
 * @property {boolean} [expired] Whether it has to be asked again before it can be decided.
 * @property {Decided} [decided] What a person decided about it.
 * @property {Event} [asked] The action as it was when it waited for that.
 * @property {string} [reason] What the person has written so far to reject it with.
 * @property {boolean} [always] Whether the person would allow all of its kind.
 * @property {Map<string, string>} [draft] What the person has made of its arguments so far, by label.
 * @property {HTMLElement} [watched] Its text as the reader saw it being written.
 *
 * @typedef {{id: number, action: Event, expired: boolean}} Approval An action that waits for a person.
 *
 * @typedef {object} Decided
 * @property {boolean} approved
 * @property {string} at ISO time.
 * @property {"you" | "elsewhere" | ""} by "" when it was decided before the conversation was opened.
 * @property {boolean} [edited] Whether the action was changed.
 * @property {string} [always] The kind that was allowed with it.
 *
 * @typedef {object} Usage What a conversation has cost so far; counts are of tokens.
 * @property {number} cost In US dollars.
 * @property {boolean} isPriced Whether the price of what was used last is known.
 * @property {number | null} budget In US dollars.
 * @property {string} model
 * @property {number} prompt
 * @property {number} completion
 * @property {number} cached
 * @property {number} turn In the last exchange.
 * @property {number} window Of the model; 0 when unknown.
 *
 * @typedef {object} Earlier
 * @property {number} left Events before the first one that is here, 0 for none.
 * @property {"ready" | "reading" | "failed"} stage
 *
 * @typedef {object} FolderEntry
 * @property {string} name
 * @property {string} path Relative to the workspace's root.
 * @property {"file" | "folder"} kind
 * @property {number | null} size Bytes; null for folders, and while a runtime is up.
 *
 * @typedef {object} WorkspaceFolder
 * @property {string} path
 * @property {boolean} running Whether these are the files of a runtime that is up.
 * @property {string | null} kept_at
 * @property {FolderEntry[]} entries
 * @property {number} more How many are left out.
 *
 * @typedef {object} FilePreview
 * @property {string} path
 * @property {"text" | "image" | "other"} kind
 * @property {number} size Bytes of the whole file.
 * @property {string | null} text
 * @property {boolean} cut Whether the text goes on.
 *
 * @typedef {"idle" | "connecting" | "connected" | "reconnecting" | "closed"} Connection
 *
 * @typedef {object} State
 * @property {Info[]} conversations
 * @property {string | null} nextPage
 * @property {"loading" | "ready" | "failed"} listStage
 * @property {ListFilter} filter
 * @property {Set<string>} unread Conversations the agent went on with while they were not open.
 * @property {Removal[]} removals
 * @property {boolean} reached Whether the server answered last time.
 * @property {string | null} openId
 * @property {string | null} title Title of the open conversation.
 * @property {boolean} missing The address names a conversation that is not there.
 * @property {Connection} connection
 * @property {boolean} polls Whether the connection is carried by polling.
 * @property {Earlier} earlier What came before the part that is shown.
 * @property {number} behind Events known to exist or received, and not drawn yet.
 * @property {string} agentState
 * @property {string} waits What the agent waits for before it can start, "" when it does not wait.
 * @property {string} status What the server says it is doing, "" for nothing.
 * @property {number} newEntries Entries that came while the reader was elsewhere.
 * @property {Usage | null} usage null until an event says.
 * @property {Entry | null} awaiting The oldest action that waits for the user's decision.
 * @property {number} questions How many actions do.
 * @property {boolean} expired Whether it has to be asked again first.
 * @property {string} asked Which actions do, and which of these have expired: another text for each change.
 * @property {string[]} allowed Kinds of action that the agent may carry out here without asking.
 * @property {Entry | null} decided The last of them that was decided elsewhere.
 * @property {Set<string>} asking Conversations in which an action waits for the user, as far as they are listed and not open.
 * @property {Entry | null} failure The newest failure that no message of the user follows.
 * @property {Entry | null} cutOff The newest message that is not whole and that nothing follows.
 * @property {boolean} sent Whether a message was sent and the agent has not come to rest since.
 * @property {boolean} writes Whether a text is being written.
 * @property {Pending[]} pending
 * @property {{connection?: string, agent?: string, server?: string, request?: string}} notices
 * @property {boolean} needsKey
 * @property {string} refusal Why the server lets this person do nothing, "" when it does.
 * @property {Example[]} examples What the agent offers to begin with.
 */

export {};
