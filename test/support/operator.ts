/** What an operator asks a process of a cluster. */
import { DardaProcess } from "./process.ts"
import { until } from "./until.ts"

/** A process of these roles, which does not run yet. */
export const withRoles = (roles: string, env: Readonly<Record<string, string>>): Promise<DardaProcess> =>
  DardaProcess.make(["serve", "--roles", roles], env)

/** What it answers at a path. */
export const ask = async (one: DardaProcess, path: string, init: RequestInit = {}) => {
  const answer = await fetch(`http://127.0.0.1:${one.port}${path}`, { signal: AbortSignal.timeout(10_000), ...init })
  const text = await answer.text()
  return { status: answer.status, text }
}

/** Waits until its `/readyz` answers this status, and gives what it says. A port that nobody listens on yet is waited for. */
export const untilReadyz = (one: DardaProcess, status: number, says = /^/): Promise<string> => {
  let last = "nothing"
  return until(
    `/readyz answers ${status} and ${says}`,
    30_000,
    async () => {
      const answer = await ask(one, "/readyz").catch((cause: Error) => ({ status: 0, text: cause.message }))
      last = `${answer.status} ${answer.text}`
      return answer.status === status && says.test(answer.text) ? answer.text : undefined
    },
    () => `It answered ${last}\n${one.output.slice(-4_000)}`
  )
}

/** Waits until it has written this. */
export const untilSays = (one: DardaProcess, says: RegExp): Promise<RegExpExecArray> =>
  until(
    `it says ${says}`,
    60_000,
    () => says.exec(one.output) ?? undefined,
    () => one.output.slice(-4_000)
  )

/** Starts it, and gives what it wrote when it ended before it was ready, with its exit code. */
export const startInVain = async (
  one: DardaProcess
): Promise<{ readonly code: number; readonly said: ReadonlyArray<string> }> => {
  const failed = await one.start().then(
    () => undefined,
    (cause: Error) => cause.message
  )
  const code = /^The server ended with (\d+) before it was ready/.exec(failed ?? "")?.[1]
  if (code === undefined) throw new Error(`It did not end: ${failed ?? one.output}`)
  return { code: Number(code), said: one.output.split("\n").filter((line) => line.startsWith("darda: ")) }
}
