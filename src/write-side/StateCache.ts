import * as HashMap from "effect/HashMap"
import type { Conversation } from "../domain/conversation.ts"
import type { ConversationId } from "../domain/ids.ts"

/** Conversations and members that one committer keeps in memory, about 100 MB at most. */
const MAX_CONVERSATIONS = 50_000
const MAX_MEMBERS = 500_000

/** The committer's conversations, least recently used out first. What is not here is read from the log. */
export class StateCache {
  readonly #states = new Map<ConversationId, Conversation>()
  #members = 0

  get(conv: ConversationId): Conversation | undefined {
    const state = this.#states.get(conv)
    if (state !== undefined) {
      this.#states.delete(conv)
      this.#states.set(conv, state)
    }
    return state
  }

  set(state: Conversation): void {
    this.delete(state.conv)
    this.#states.set(state.conv, state)
    this.#members += HashMap.size(state.members)
    for (const [conv] of this.#states) {
      if (this.#states.size <= MAX_CONVERSATIONS && this.#members <= MAX_MEMBERS) break
      this.delete(conv)
    }
  }

  delete(conv: ConversationId): void {
    const state = this.#states.get(conv)
    if (state === undefined) return
    this.#states.delete(conv)
    this.#members -= HashMap.size(state.members)
  }

  /** Forgets every conversation of a partition that this committer has lost. */
  deleteWhere(lost: (conv: ConversationId) => boolean): void {
    for (const conv of [...this.#states.keys()]) if (lost(conv)) this.delete(conv)
  }
}
