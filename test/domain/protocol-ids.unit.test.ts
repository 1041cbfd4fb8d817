import { describe, expect, it } from "vitest"
import { groupConversation } from "../../src/domain/groupId.ts"
import {
  dmConversation,
  dmMembers,
  isClientId,
  isConversationId,
  isSeq,
  isUserId,
  isWellFormedText,
  otherMember,
  parseConversation
} from "../../src/domain/ids.ts"

describe("ids", () => {
  it.each([
    ["alice", true],
    ["A.b@c|d+e=f~g-h_9", true],
    ["x".repeat(128), true],
    ["x".repeat(129), false],
    ["", false],
    ["a b", false],
    ["a:b", false],
    ["é", false],
    ["alice\n", false]
  ])("user id %j: %s", (text, valid) => expect(isUserId(text)).toBe(valid))

  it.each([
    ["0190-a_Z", true],
    ["x".repeat(64), true],
    ["x".repeat(65), false],
    ["", false],
    ["a.b", false],
    ["a\n", false]
  ])("cid %j: %s", (text, valid) => expect(isClientId(text)).toBe(valid))

  it.each([
    [1, true],
    [0, false],
    [-1, false],
    [1.5, false],
    [NaN, false],
    [Infinity, false],
    [2 ** 53, false]
  ])("seq %d: %s", (value, valid) => expect(isSeq(value)).toBe(valid))

  const uuid = "0f0e0d0c-0b0a-8908-8706-050403020100"
  it.each([
    ["dm:alice:bob", true],
    ["dm:a:a", true],
    ["dm:B:a", true],
    ["dm:a:B", false],
    ["dm:bob:alice", false],
    ["dm:a:ab", true],
    ["dm:ab:a", false],
    ["dm:a", false],
    ["dm:a:", false],
    ["dm:a:b:c", false],
    ["dm::a", false],
    [`g:${uuid}`, true],
    [`g:${uuid.toUpperCase()}`, false],
    ["g:", false],
    [`g:${uuid}0`, false],
    [`x:${uuid}`, false],
    ["", false],
    ["dm:a:b\n", false]
  ])("conversation %j: %s", (text, valid) => {
    expect(isConversationId(text)).toBe(valid)
    expect(parseConversation(text) !== undefined).toBe(valid)
  })

  it("names a dm the same whoever asks, sorted by code unit", () => {
    expect(dmConversation("bob", "Zoe")).toBe("dm:Zoe:bob")
    expect(dmConversation("Zoe", "bob")).toBe("dm:Zoe:bob")
    expect(dmConversation("a", "a")).toBe("dm:a:a")
  })

  it("knows the members of a dm", () => {
    expect(dmMembers("dm:a:b")).toEqual(["a", "b"])
    expect(dmMembers("dm:a:a")).toEqual(["a"])
    expect(dmMembers(`g:${uuid}`)).toBeUndefined()
    expect(otherMember("dm:a:b", "a")).toBe("b")
    expect(otherMember("dm:a:b", "b")).toBe("a")
    expect(otherMember("dm:a:a", "a")).toBe("a")
    expect(otherMember("dm:a:b", "c")).toBeUndefined()
    expect(otherMember(`g:${uuid}`, "a")).toBeUndefined()
  })

  it("derives a group's id from its creator and cid alone", () => {
    const conv = groupConversation("alice", "c1")
    expect(conv).toMatch(/^g:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(isConversationId(conv)).toBe(true)
    expect(groupConversation("alice", "c1")).toBe(conv)
    expect(groupConversation("alice", "c2")).not.toBe(conv)
    expect(groupConversation("bob", "c1")).not.toBe(conv)
    // The ids of groups that exist must never change.
    expect(conv).toBe("g:ef5dfe20-3a3a-8a71-bfa6-ab57f5e323af")
  })

  it("refuses text that cannot be stored or shown everywhere", () => {
    expect(isWellFormedText("héllo 👋")).toBe(true)
    expect(isWellFormedText("a\u0000b")).toBe(false)
    expect(isWellFormedText("\ud83d")).toBe(false)
    expect(isWellFormedText("\udc4b\ud83d")).toBe(false)
  })
})
