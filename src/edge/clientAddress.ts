import type { IncomingMessage } from "node:http"
import { isIP } from "node:net"

/** Groups of an IPv6 address that name a network: a household or a machine has a /64 of its own, and all addresses in it. */
const NETWORK_GROUPS = 4
const GROUPS = 8

/** The groups of an IPv6 address in the one form that URLs know: lower case, no leading zeros, at most one `::`. */
const groupsOf = (address: string): ReadonlyArray<string> => {
  const [head = "", tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::")
  const before = head === "" ? [] : head.split(":")
  if (tail === undefined) return before
  const after = tail === "" ? [] : tail.split(":")
  return [...before, ...Array.from({ length: GROUPS - before.length - after.length }, () => "0"), ...after]
}

/** Whom an address belongs to: an IPv4 address as it is, also within IPv6, and of an IPv6 address its /64. Undefined for what is no address. */
export const holderOf = (given: string): string | undefined => {
  // Some proxies add the port, some systems the interface.
  const address = /^\[([^\]]*)\](?::\d+)?$|^([\d.]+):\d+$/
    .exec(given)
    ?.slice(1)
    .find((part) => part !== undefined)
  const bare = (address ?? given).replace(/%.*$/, "")
  const version = isIP(bare)
  if (version === 0) return undefined
  if (version === 4) return bare
  const groups = groupsOf(bare)
  if (groups[5] === "ffff" && groups.slice(0, 5).every((group) => group === "0")) {
    const bytes = groups
      .slice(6)
      .flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255])
    return bytes.join(".")
  }
  return `${groups.slice(0, NETWORK_GROUPS).join(":")}::/64`
}

/**
 * Whom a request comes from, by {@link holderOf}. Each of the `proxies` before this server adds to `X-Forwarded-For` who spoke to it, so that the last
 * of as many are true and whatever is before them is what somebody claims. Where they are missing, or no addresses, it is the peer itself.
 */
export const clientAddress = (request: IncomingMessage, proxies: number): string => {
  const peer = request.socket.remoteAddress ?? ""
  const forwarded = request.headers["x-forwarded-for"]
  const chain = proxies === 0 || forwarded === undefined ? [] : String(forwarded).split(",").slice(-proxies)
  return holderOf(chain[0]?.trim() ?? peer) ?? holderOf(peer) ?? peer
}
