/** How ticks follow each other: the last (epoch, seq) of each symbol. */
export class SequenceTracker {
  #last = new Map();

  /**
   * Judge a tick and, unless it is repeated or leaves a gap, remember it.
   * @returns {"first" | "next" | "repeated" | "gap" | "new-epoch"}
   */
  observe({ symbol, epoch, seq }) {
    const before = this.#last.get(symbol);
    if (!before) return this.#remember("first", symbol, epoch, seq);
    if (before.epoch !== epoch) return "new-epoch";
    if (seq <= before.seq) return "repeated";
    return seq === before.seq + 1 ? this.#remember("next", symbol, epoch, seq) : "gap";
  }

  /** Take a snapshot's place as given. */
  reset({ symbol, epoch, seq }) {
    this.#last.set(symbol, { epoch, seq });
  }

  #remember(verdict, symbol, epoch, seq) {
    this.#last.set(symbol, { epoch, seq });
    return verdict;
  }
}
