import type { MetricsWriter } from "../platform/Metrics.ts"
import type { Frame } from "./Frame.ts"

/** What goes in and out at an edge: counted in plain numbers, since it is counted for every frame, and told once a second. */
export class Traffic {
  #framesIn = 0
  #framesOut = 0
  #bytesIn = 0
  #bytesOut = 0

  received(text: string): void {
    this.#framesIn++
    this.#bytesIn += text.length
  }

  queued(frame: Frame): void {
    this.#framesOut++
    this.#bytesOut += frame.payload.length
  }

  tell(metrics: MetricsWriter): void {
    metrics.update("framesIn", this.#framesIn)
    metrics.update("framesOut", this.#framesOut)
    metrics.update("bytesIn", this.#bytesIn)
    metrics.update("bytesOut", this.#bytesOut)
    this.#framesIn = this.#framesOut = this.#bytesIn = this.#bytesOut = 0
  }
}
