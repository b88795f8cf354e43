/** Groups of the agent's states. */

/** States in which the agent is idle after a failure. */
export const STANDING = new Set(["error", "rate_limited"]);
/** States in which the agent can be asked to go on. */
export const RESTING = new Set(["awaiting_user_input", "paused", "stopped", ...STANDING]);
