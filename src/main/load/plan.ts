/** Who writes to whom: pairs or groups among the users, spread evenly. */

/** Members of one conversation, as numbers of users; all different. */
export type Group = ReadonlyArray<number>

/** How many different conversations of this size `conversationsOf` can make. */
export const mostConversations = (users: number, size: number): number =>
  size === 2 ? (users * (users - 1)) / 2 : Number.MAX_SAFE_INTEGER

/**
 * Conversations among users 0 to `users` - 1. Pairs never repeat and each user has nearly as many as any other; groups are runs of neighbours and
 * may have the same members, since each is created anew. Expects 2 <= size <= users and count <= {@link mostConversations}.
 */
export const conversationsOf = (users: number, count: number, size: number): ReadonlyArray<Group> => {
  const groups: Array<Group> = []
  for (let i = 0; i < count; i++) {
    const first = i % users
    if (size > 2) {
      groups.push(Array.from({ length: size }, (_, k) => (first + k) % users))
    } else {
      // Round r pairs everyone with the one r + 1 further on; with an even number of users the last round has only half.
      const distance = Math.floor(i / users) + 1
      groups.push([first, (first + distance) % users])
    }
  }
  return groups
}
