import type { DatabaseSync, StatementSync } from "node:sqlite"

/** Rows that one INSERT takes. More are hardly faster. */
const MANY = 16

/** Makes a function that inserts rows from a flat list of their columns, in the order of the table's. */
export const insertRows = (
  db: DatabaseSync,
  table: string,
  columns: number
): ((values: ReadonlyArray<string | number>) => void) => {
  const row = `(${new Array<string>(columns).fill("?").join()})`
  const prepare = (rows: number): StatementSync =>
    db.prepare(`INSERT INTO ${table} VALUES ${new Array<string>(rows).fill(row).join()}`)
  const many = prepare(MANY)
  const one = prepare(1)
  return (values) => {
    let i = 0
    for (; i + MANY * columns <= values.length; i += MANY * columns) many.run(...values.slice(i, i + MANY * columns))
    for (; i < values.length; i += columns) one.run(...values.slice(i, i + columns))
  }
}
