import type { MetricsWriter } from "../platform/Metrics.ts"

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

  queued(frames: number, bytes: number): void {
    this.#framesOut += frames
    this.#bytesOut += bytes
  }

  tell(metrics: MetricsWriter): void {
    metrics.update("framesIn", this.#framesIn)
    metrics.update("framesOut", this.#framesOut)
    metrics.update("bytesIn", this.#bytesIn)
    metrics.update("bytesOut", this.#bytesOut)
    this.#framesIn = this.#framesOut = this.#bytesIn = this.#bytesOut = 0
  }
}
