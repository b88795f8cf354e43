/** A short tone when the agent hands over, if the user has asked for it. */

const HANDED_OVER = new Set(["awaiting_user_input", "awaiting_user_confirmation", "finished", "error"]);

/**
 * @param {import("./store.js").Store} store
 * @returns {(wanted: boolean) => void} turns it on or off
 */
export function mountSound(store) {
  let wanted = false;
  let before = "";
  store.watch(["agentState"], () => {
    const { agentState } = store.state;
    if (wanted && before === "running" && HANDED_OVER.has(agentState)) play();
    before = agentState;
  });
  return (on) => {
    wanted = on;
  };
}

function play() {
  const context = new AudioContext();
  const tone = context.createOscillator();
  const gain = context.createGain();
  const end = context.currentTime + 0.25;
  tone.frequency.value = 660;
  gain.gain.setValueAtTime(0.08, context.currentTime);
  gain.gain.exponentialRampToValueAtTime(0.001, end);
  tone.connect(gain).connect(context.destination);
  tone.addEventListener("ended", () => void context.close());
  tone.start();
  tone.stop(end);
}
