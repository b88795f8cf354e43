/** What only an open conversation needs: one script, which the front page does without. */

import { Conversation } from "./conversation.js";
import { mountPending } from "./views/pending.js";
import { Transcript } from "./views/transcript.js";

export { Conversation, mountPending, Transcript };
