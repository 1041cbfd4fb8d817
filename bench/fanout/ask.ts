import type { ChildProcess } from "node:child_process"

/** A message to a process, and its answer. Fails when the process ends instead. */
export const ask = <Q extends object, A>(process: ChildProcess, told: Q): Promise<A> =>
  new Promise((resolve, reject) => {
    const failed = (): void => reject(new Error("The process that was asked has ended"))
    process.once("exit", failed)
    process.once("message", (answer) => {
      process.off("exit", failed)
      resolve(answer as A)
    })
    process.send(told)
  })

/** The other end: answers what this process's parent asks, and ends with it, or when an answer fails. */
export const answerParent = <Q extends object>(answer: (told: Q) => Promise<object>): void => {
  process.on("message", (told: Q) => {
    answer(told).then(
      (answered) => process.send!(answered),
      (error: unknown) => {
        console.error(error)
        process.exit(1)
      }
    )
  })
  process.once("disconnect", () => process.exit(0))
}
