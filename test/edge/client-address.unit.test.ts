import type { IncomingMessage } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { clientAddress, holderOf } from "../../src/edge/clientAddress.ts"

describe("whom an address belongs to", () => {
  it("an IPv4 address to itself, however it is written", () => {
    for (const given of ["192.0.2.7", "192.0.2.7:443", "::ffff:192.0.2.7", "::FFFF:c000:207", "[::ffff:192.0.2.7]:1"])
      assert.strictEqual(holderOf(given), "192.0.2.7", given)
  })

  it("an IPv6 address to its /64, however it is written", () => {
    for (const given of [
      "2001:db8::1",
      "2001:DB8:0:0:ffff:ffff:ffff:ffff",
      "2001:0db8:0000:0000:0000:0000:0000:0001",
      "[2001:db8::2]:443",
      "2001:db8:0:0::%eth0"
    ])
      assert.strictEqual(holderOf(given), "2001:db8:0:0::/64", given)
    assert.strictEqual(holderOf("2001:db8:0:1::1"), "2001:db8:0:1::/64")
    assert.strictEqual(holderOf("::1"), "0:0:0:0::/64")
    assert.strictEqual(holderOf("1:2:3:4:5:6:7:8"), "1:2:3:4::/64")
  })

  it("and what is no address to nobody", () => {
    for (const given of [
      "",
      "unknown",
      "_hidden",
      "1.2.3",
      "1.2.3.4.5",
      "2001:db8",
      ":::",
      "[1.2.3.4]x",
      "ann's phone"
    ])
      assert.strictEqual(holderOf(given), undefined, given)
  })
})

describe("whom a request comes from", () => {
  const from = (proxies: number, forwarded: string | undefined, peer = "::ffff:10.0.0.1") =>
    clientAddress(
      { socket: { remoteAddress: peer }, headers: { "x-forwarded-for": forwarded } } as unknown as IncomingMessage,
      proxies
    )

  it("is who speaks to the server, where no proxy is trusted", () => {
    assert.strictEqual(from(0, "192.0.2.7"), "10.0.0.1")
    assert.strictEqual(from(0, undefined, "2001:db8::1"), "2001:db8:0:0::/64")
  })

  it("is who spoke to the first of the proxies that are trusted, whatever is claimed before it", () => {
    assert.strictEqual(from(1, "192.0.2.7"), "192.0.2.7")
    assert.strictEqual(from(1, "198.51.100.1, 192.0.2.7"), "192.0.2.7")
    assert.strictEqual(from(2, "198.51.100.1, 192.0.2.7,10.0.0.2"), "192.0.2.7")
  })

  it("is the peer where the header is missing or says no address", () => {
    assert.strictEqual(from(1, undefined), "10.0.0.1")
    assert.strictEqual(from(1, ""), "10.0.0.1")
    assert.strictEqual(from(1, "192.0.2.7, unknown"), "10.0.0.1")
  })
})
