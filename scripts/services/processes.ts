/** Processes that may outlive the one that starts them, and how to know them again. Linux only: it reads /proc. */
import { spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { setTimeout as wait } from "node:timers/promises"

/** A process that cannot be mistaken for a later one of the same number. */
export interface Identity {
  readonly pid: number
  /** When it was born: the boot of the machine and the clock ticks since. */
  readonly born: string
}

/** What is run. */
export interface Program {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env: NodeJS.ProcessEnv
}

/** The process of that number now; undefined when there is none, or only what its parent has not collected yet. */
export const identify = (pid: number): Identity | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
    // The name, in parentheses, may hold spaces and parentheses itself. After it: state (field 3) … threads (20) … start time (22).
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    const [state, threads, start] = [fields[0], Number(fields[17]), fields[19]]
    // While other threads end, those keep its files and ports.
    if (state === "X" || (state === "Z" && threads <= 1)) return undefined
    return { pid, born: `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()}/${start}` }
  } catch {
    return undefined
  }
}

export const alive = ({ pid, born }: Identity): boolean => identify(pid)?.born === born

/** Sends the signal to this process, and never to another that got its number; false when it is gone. */
export const signal = (process_: Identity, name: NodeJS.Signals): boolean => {
  if (!alive(process_)) return false
  try {
    return process.kill(process_.pid, name)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ESRCH") return false
    throw cause
  }
}

/**
 * Starts it, with its output in the file `log`, written anew. `own`: it ends with this process (with the thread that calls), however that ends; otherwise it goes on, in a session of its
 * own that no Ctrl-C reaches.
 */
export const launch = async ({ command, args, env }: Program, log: string, own: boolean): Promise<Identity> => {
  const output = openSync(log, "w", 0o600)
  try {
    const child = own
      ? spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], { env, stdio: ["ignore", output, output] })
      : spawn(command, args, { env, stdio: ["ignore", output, output], detached: true })
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve)
      child.once("error", (cause) => reject(new Error(`${command} cannot be started: ${cause.message}`, { cause })))
    })
    child.unref()
    const pid = child.pid as number
    // One that ended already is given an identity that nothing has.
    return identify(pid) ?? { pid, born: "gone" }
  } finally {
    closeSync(output)
  }
}

/** The last lines that it wrote. */
export const tail = (log: string): string => {
  try {
    return readFileSync(log, "utf8").slice(-4000).trim()
  } catch {
    return ""
  }
}

/** Asks every 20 ms until the answer is yes; false when that takes longer than `ms`. */
export const eventually = async (ms: number, ask: () => boolean | Promise<boolean>): Promise<boolean> => {
  for (const deadline = performance.now() + ms; ;) {
    if (await ask()) return true
    if (performance.now() > deadline) return false
    await wait(20)
  }
}

/** Ends it: at once, or by SIGTERM and after `graceMs` by SIGKILL. Comes back when it is gone. */
export const end = async (process_: Identity, graceMs: number): Promise<void> => {
  if (graceMs > 0 && signal(process_, "SIGTERM")) await eventually(graceMs, () => !alive(process_))
  signal(process_, "SIGKILL")
  if (!(await eventually(30_000, () => !alive(process_))))
    throw new Error(`Process ${process_.pid} does not end, not even by SIGKILL`)
}
