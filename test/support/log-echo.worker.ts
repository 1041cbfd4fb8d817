import { serve } from "../../src/platform/worker/serve.ts"

const methods = {
  echo: <A>(value: A): A => value,
  later: async (value: string): Promise<string> => value,
  fail: (code: string): never => {
    throw Object.assign(new TypeError("no such thing"), { code })
  },
  die: (): void => {
    setImmediate(() => {
      throw new Error("struck down")
    })
  },
  spin: (ms: number): void => {
    const end = performance.now() + ms
    while (performance.now() < end);
  }
}

export type EchoMethods = typeof methods

serve((data: { readonly refuse?: string; readonly closed?: SharedArrayBuffer }) => {
  if (data.refuse !== undefined) throw Object.assign(new Error(data.refuse), { code: "refused" })
  return {
    methods,
    close: () => {
      if (data.closed !== undefined) new Int32Array(data.closed)[0] = 1
    }
  }
})
