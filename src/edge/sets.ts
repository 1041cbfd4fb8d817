/** Maps of sets and of lists, without empty ones. */

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

/** Maps of lists that are never changed, only replaced, in the order in which things came: for where most keys have one value, since a list of one is a third of a set. */

/** Adds a value that is not there yet; answers all of its key. */
export const addToList = <K, V>(lists: Map<K, ReadonlyArray<V>>, key: K, value: V): ReadonlyArray<V> => {
  const list = lists.get(key)
  if (list?.includes(value) === true) return list
  // An array that is made longer has room for more than it holds.
  const longer = list === undefined ? [value] : [...list, value]
  lists.set(key, longer)
  return longer
}

/** Removes a value; true when it was there and was the last of its key. */
export const removeFromList = <K, V>(lists: Map<K, ReadonlyArray<V>>, key: K, value: V): boolean => {
  const list = lists.get(key)
  if (list?.includes(value) !== true) return false
  if (list.length === 1) return lists.delete(key)
  lists.set(
    key,
    list.filter((one) => one !== value)
  )
  return false
}
