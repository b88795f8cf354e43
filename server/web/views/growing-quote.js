/** The text of a block quote that is being written, line by line and without its marks. */

const MARKED = /^ {0,3}>/;
const MARK = /^ {0,3}>[ \t]?/;
const BLANK = /^[ \t]*$/;
/** What begins no block of its own, whatever follows: behind a paragraph it belongs to it. */
const PLAIN = /^(?:\p{L}|["'“„«(])[^|\r]*$/u;
const BEHIND_BLANK = /(?:^|\n)[ \t]*\n$/;

export class QuotedText {
  /** Without marks, as far as it was read. */
  text = "";
  /** Where in the source that ends. */
  to = 0;

  /** The whole lines, and where in the source they end. */
  #lines = "";
  #linesTo = 0;

  /**
   * Reads on to the first line without a mark.
   *
   * @param {string} source begins with the one given before
   * @returns {"all" | "blank" | "unmarked"} what it stopped at: the end, a line that ends the quote, or one that may
   */
  read(source) {
    this.text = this.#lines;
    this.to = this.#linesTo;
    while (this.to < source.length) {
      const { line, isWhole } = this.#next(source);
      if (!MARKED.test(line)) {
        if (!BLANK.test(line)) return "unmarked";
        return isWhole ? "blank" : "all";
      }
      this.#take(line, line.replace(MARK, ""), isWhole);
    }
    return "all";
  }

  /**
   * Reads a line without a mark if it continues the paragraph before it.
   *
   * @param {string} source the one that was read up to there
   * @returns {boolean} false if it does not, or if that depends on what follows
   */
  readPlain(source) {
    const { line, isWhole } = this.#next(source);
    if (!PLAIN.test(line) || BEHIND_BLANK.test(this.#lines)) return false;
    this.#take(line, line, isWhole);
    return true;
  }

  /** @param {string} source */
  #next(source) {
    const end = source.indexOf("\n", this.#linesTo);
    return { line: source.slice(this.#linesTo, end === -1 ? source.length : end), isWhole: end !== -1 };
  }

  /** @param {string} line @param {string} text of the line @param {boolean} isWhole */
  #take(line, text, isWhole) {
    this.text = this.#lines + text;
    this.to = this.#linesTo + line.length;
    if (!isWhole) return;
    this.text += "\n";
    this.to += 1;
    this.#lines = this.text;
    this.#linesTo = this.to;
  }
}
