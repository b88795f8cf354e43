// Writers of the Node yardstick: the tokens, pieces and messages of benchmarks/writers.py, sent to a
// room without a journal or a mask.
import { event, roomOf } from "./rooms.mjs";

const TOKENS_PER_SECOND = 50;
const TOKENS = 100;
const PAUSE_TOKENS = 5;
const PIECE_MS = 50;
const WORDS = ["all", " work", " and", " no", " play", " makes", " a", " dull", " day", " ..."];
const SPREAD = 0.618;

let writers = [];
let begun = 0;

class Writer {
  constructor(io, name, how, number) {
    this.to = (type, data) => io.to(name).emit(type, data);
    this.room = roomOf(name);
    this.how = how;
    this.events = 0;
    const share = (number * SPREAD) % 1;
    this.left = 1 + Math.floor(share * TOKENS);
    this.number = 0;
    this.begin();
    this.due = performance.now() + (share * 1000) / TOKENS_PER_SECOND;
    this.timer = setTimeout(() => this.token(), this.due - performance.now());
    this.toldAt = -Infinity;
  }

  begin() {
    this.text = "";
    this.told = 0;
    this.id = `0badcafe-${++begun}`;
  }

  token() {
    const stamp = process.hrtime.bigint().toString().padStart(20, "0");
    this.text += this.text ? WORDS[this.number % WORDS.length] : stamp;
    this.number++;
    this.due += 1000 / TOKENS_PER_SECOND;
    this.wake();
    const wait = this.due - performance.now();
    if (--this.left === 0) this.timer = setTimeout(() => this.end(), wait);
    else this.timer = setTimeout(() => this.token(), wait);
  }

  wake() {
    if (this.flush !== undefined || this.how === "nothing") return;
    this.flush = setTimeout(() => this.tell(), this.toldAt + PIECE_MS - performance.now());
  }

  tell() {
    clearTimeout(this.flush);
    this.flush = undefined;
    this.toldAt = performance.now();
    if (this.told === this.text.length) return;
    const head = this.told === 0 ? { kind: "message", field: "content", turn: 0 } : {};
    const piece = { type: "text", id: this.id, ...head, at: this.told, to: this.text.length };
    this.to("oh_delta", { ...piece, text: this.text.slice(this.told) });
    this.told = this.text.length;
  }

  end() {
    if (this.how !== "nothing" && this.text) {
      this.tell();
      const message = event(this.room.nextId++, "agent", this.text);
      this.to("oh_event", { ...message, partial: this.id, turn: 0 });
      this.events++;
    }
    this.begin();
    this.left = TOKENS;
    this.due += (1000 * PAUSE_TOKENS) / TOKENS_PER_SECOND;
    this.timer = setTimeout(() => this.token(), this.due - performance.now());
  }

  stop() {
    clearTimeout(this.timer);
    this.end();
    clearTimeout(this.timer);
    return this.events;
  }
}

export const writing = (io) => ({
  write: ({ conversations, how }) => {
    writers = conversations.map((name, number) => new Writer(io, name, how, number));
    return writers.length;
  },
  hush: () => writers.splice(0).map((writer) => writer.stop()),
});
