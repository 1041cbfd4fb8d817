/** Maps of sets, without empty ones. */

export const add = <K, V>(sets: Map<K, Set<V>>, key: K, value: V): void => {
  const set = sets.get(key)
  if (set === undefined) sets.set(key, new Set([value]))
  else set.add(value)
}

/** Removes a value; true when it was there and was the last of its key. */
export const remove = <K, V>(sets: Map<K, Set<V>>, key: K, value: V): boolean => {
  const set = sets.get(key)
  if (set === undefined || !set.delete(value) || set.size > 0) return false
  sets.delete(key)
  return true
}
