/** People in numbers, who only talk, in groups of their own. */
import { groupConversation } from "../../src/domain/groupId.ts"
import { devTokens } from "../../src/main/load/tokens.ts"
import { RealDevice } from "./real-device.ts"

export interface CrowdOptions {
  readonly users: number
  /** Groups of neighbours, spread evenly; of everything that the crowd says, `share` is said in these. */
  readonly groups: ReadonlyArray<{ readonly members: number; readonly count: number; readonly share: number }>
  /** By which addresses of edges one of them goes, of those that there are. */
  readonly ways: (urls: ReadonlyArray<string>, index: number) => ReadonlyArray<string>
}

interface Group {
  readonly conv: string
  readonly members: ReadonlyArray<RealDevice>
}

/** Members that one command names at most. */
const NAMED = 256

const pick = <A>(items: ReadonlyArray<A>): A => items[Math.floor(Math.random() * items.length)]!

export class Crowd {
  readonly devices: ReadonlyArray<RealDevice>
  readonly #options: CrowdOptions
  /** One list for each kind of them. */
  #groups: ReadonlyArray<ReadonlyArray<Group>> = []
  #due = new Map<RealDevice, number>()

  private constructor(options: CrowdOptions, devices: ReadonlyArray<RealDevice>) {
    this.#options = options
    this.devices = devices
  }

  /** Devices that are not connected yet. `http`: who gives them tokens; `urls`: where they may connect. */
  static async make(http: string, urls: ReadonlyArray<string>, options: CrowdOptions): Promise<Crowd> {
    const names = Array.from({ length: options.users }, (_, i) => `one-of-many-${i}`)
    const tokens = await devTokens(http, names)
    return new Crowd(
      options,
      tokens.map(
        ({ token, user }, index) => new RealDevice(options.ways(urls, index), user, `${user}-phone`, token, index)
      )
    )
  }

  /** Makes the groups. */
  gather(): void {
    this.#groups = this.#options.groups.map(({ count, members }, kind) =>
      Array.from({ length: count }, (_, index) => {
        const from = Math.floor((index * this.devices.length) / count)
        return this.#gather(
          `crowd ${kind} ${index}`,
          Array.from({ length: members }, (_, i) => this.devices[(from + i) % this.devices.length]!)
        )
      })
    )
  }

  #gather(name: string, members: ReadonlyArray<RealDevice>): Group {
    const [maker, ...others] = members as [RealDevice, ...Array<RealDevice>]
    const named = others.map(({ user }) => user)
    const [cid] = maker.commands([{ t: "create", rid: name, members: named.slice(0, NAMED) }]) as [string]
    const conv = groupConversation(maker.user, cid)
    for (let at = NAMED; at < named.length; at += NAMED)
      maker.command({ t: "members", rid: `${name} ${at}`, conv, add: named.slice(at, at + NAMED) })
    for (const member of members) this.#due.set(member, (this.#due.get(member) ?? 0) + 1)
    return { conv, members }
  }

  /** Whether all of them know all of their groups. */
  get isGathered(): boolean {
    return [...this.#due].every(([{ have }, groups]) => have.size === groups)
  }

  /** One of them, and a group of theirs, in which they may say something. */
  speaker(): { readonly conv: string; readonly device: RealDevice } {
    let roll = Math.random()
    const kind = this.#options.groups.findIndex(({ share }) => (roll -= share) < 0)
    // Shares may come to a little less than 1.
    const { conv, members } = pick(this.#groups.at(kind)!)
    return { conv, device: pick(members) }
  }
}
