/** What SQL is run by: `GuardedDatabase`, which makes its errors readable and checks each row. */
export interface Sql {
  all<Row>(sql: string, ...bindings: number[]): Row[];
  run(sql: string, bindings: (string | number | null)[]): unknown;
  transaction<T>(act: () => T): T;
}
