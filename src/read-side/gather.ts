import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** Questions that may wait for the next asking. */
const WAITING = 10_000

/**
 * Asks together what is asked in the same moment: `ask` is given at most `most` questions, and answers them in their order; when it fails, all who asked do. Of one who
 * is interrupted the answer is dropped. More than 10,000 that wait fail with what `full` says.
 */
export const makeGather = <Question, Answer, E>(
  most: number,
  ask: (questions: ReadonlyArray<Question>) => Effect.Effect<ReadonlyArray<Answer>, E>,
  full: () => E
): Effect.Effect<(question: Question) => Effect.Effect<Answer, E>> =>
  Effect.map(Effect.context<never>(), (context) => {
    interface Asked {
      readonly question: Question
      readonly resume: (answer: Effect.Effect<Answer, E>) => void
    }
    const runFork = Effect.runForkWith(context)
    let pending = new Set<Asked>()
    const flush = (): void => {
      const all = [...pending]
      pending = new Set()
      for (let i = 0; i < all.length; i += most) {
        const group = all.slice(i, i + most)
        runFork(ask(group.map(({ question }) => question))).addObserver((exit) => {
          for (const [j, { resume }] of group.entries()) {
            resume(Exit.isSuccess(exit) ? Effect.succeed(exit.value[j]!) : Effect.failCause(exit.cause))
          }
        })
      }
    }
    return (question) =>
      Effect.callback((resume) => {
        if (pending.size >= WAITING) return resume(Effect.fail(full()))
        const asked: Asked = { question, resume }
        // After everything that is ready now.
        if (pending.size === 0) setImmediate(flush)
        pending.add(asked)
        return Effect.sync(() => void pending.delete(asked))
      })
  })
