/**
 * The query API: how an edge asks a read process. One definition, from which both the server and the client are made. It is between processes of one
 * cluster, and no part of what clients see.
 */
import { createHmac } from "node:crypto"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { TimelineEvent } from "../domain/events.ts"
import type { ConversationId, Seq, UserId } from "../domain/ids.ts"
import type { Vector } from "../domain/partition.ts"
import { AfterForm, ConversationIdForm, limitForm, OpaqueForm, SeqForm, UserIdForm } from "../domain/protocol/forms.ts"
import { PAGES, PRESENCE_USERS, RESUME_SEQS } from "../domain/protocol/limits.ts"
import type { ReplyBody } from "../domain/protocol/server-frames.ts"
import { type MissedConversation, type MissedReceipt, QueryRefused, STANDING_USERS } from "./Queries.ts"

/** Where it is served. */
export const QUERY_PREFIX = "/query/v1/"

/** Events that are pulled at once, at most: what repairs a hole of a connection. */
const PULL_EVENTS = 1_000

/** A partition vector: positions from 0. */
const VectorForm = Schema.Array(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)))

/** What comes back was made by a process that knows the same secret and the same code: it is typed, and not checked again. */
const answer = <A>(): Schema.Codec<A, unknown> => Schema.Unknown as unknown as Schema.Codec<A, unknown>

/** The caller does not know the cluster's secret. */
export class NotOfThisCluster extends Schema.TaggedError<NotOfThisCluster>()(
  "NotOfThisCluster",
  {},
  { httpApiStatus: 401 }
) {
  override get message(): string {
    return "The read process has another CLUSTER_SECRET; give all processes of a cluster the same."
  }
}

/** Lets in who knows the cluster's secret. */
export class OfThisCluster extends HttpApiMiddleware.Service<OfThisCluster>()("darda/read-side/OfThisCluster", {
  security: { bearer: HttpApiSecurity.bearer },
  error: NotOfThisCluster
}) {}

/**
 * The bearer token of the query API, made from the cluster's secret. It names no time: clocks that differ by an hour must not keep an edge from its
 * queries, and who can listen between the processes can read the answers as well; TLS or a mesh is what keeps them out.
 */
export const clusterToken = (secret: Redacted.Redacted<string>): Redacted.Redacted<string> =>
  Redacted.make(createHmac("sha256", Redacted.value(secret)).update("darda query api 1").digest("base64url"))

const refused = QueryRefused.pipe(HttpApiSchema.status(409))
const user = { user: UserIdForm }
const atLeast = { atLeast: VectorForm }
const optional = Schema.optionalKey

/** Which log this cluster is about. */
export interface LogIdentity {
  readonly id: string
  readonly partitions: number
}

const queries = HttpApiGroup.make("queries")
  .add(
    HttpApiEndpoint.get("log", `${QUERY_PREFIX}log`, { success: answer<LogIdentity>() }),
    HttpApiEndpoint.get("heads", `${QUERY_PREFIX}heads`, { success: answer<Vector>(), error: refused }),
    HttpApiEndpoint.post("history", `${QUERY_PREFIX}history`, {
      payload: Schema.Struct({
        ...user,
        ...atLeast,
        request: Schema.Struct({
          conv: ConversationIdForm,
          before: optional(SeqForm),
          after: optional(AfterForm),
          around: optional(SeqForm),
          limit: limitForm(PAGES.history.max)
        })
      }),
      success: answer<ReplyBody["history"]>(),
      error: refused
    }),
    HttpApiEndpoint.post("sync", `${QUERY_PREFIX}sync`, {
      payload: Schema.Struct({
        ...user,
        ...atLeast,
        request: Schema.Struct({ conv: ConversationIdForm, after: AfterForm, limit: limitForm(PAGES.sync.max) })
      }),
      success: answer<ReplyBody["sync"]>(),
      error: refused
    }),
    HttpApiEndpoint.post("convs", `${QUERY_PREFIX}convs`, {
      payload: Schema.Struct({
        ...user,
        ...atLeast,
        request: Schema.Struct({ after: optional(OpaqueForm), limit: limitForm(PAGES.convs.max) })
      }),
      success: answer<ReplyBody["convs"]>(),
      error: refused
    }),
    HttpApiEndpoint.post("roster", `${QUERY_PREFIX}roster`, {
      payload: Schema.Struct({
        ...user,
        ...atLeast,
        request: Schema.Struct({
          conv: ConversationIdForm,
          after: optional(UserIdForm),
          limit: limitForm(PAGES.roster.max)
        })
      }),
      success: answer<ReplyBody["roster"]>(),
      error: refused
    }),
    HttpApiEndpoint.post("missed", `${QUERY_PREFIX}missed`, {
      payload: Schema.Struct({
        ...user,
        since: optional(VectorForm),
        seqs: Schema.Record(Schema.String, AfterForm).check(Schema.isMaxProperties(RESUME_SEQS)),
        barrier: VectorForm
      }),
      success: answer<ReadonlyArray<MissedConversation>>(),
      error: refused
    }),
    HttpApiEndpoint.post("pull", `${QUERY_PREFIX}pull`, {
      payload: Schema.Struct({ conv: ConversationIdForm, after: AfterForm, limit: limitForm(PULL_EVENTS) }),
      success: answer<ReadonlyArray<TimelineEvent>>(),
      error: refused
    }),
    HttpApiEndpoint.post("audience", `${QUERY_PREFIX}audience`, {
      payload: Schema.Struct({ ...user, ...atLeast, conv: ConversationIdForm }),
      // Null for one who is not a member: there is no undefined in JSON.
      success: answer<{ readonly members: ReadonlyArray<UserId> | null }>(),
      error: refused
    }),
    HttpApiEndpoint.post("bigConversations", `${QUERY_PREFIX}bigConversations`, {
      payload: Schema.Struct({ ...user, ...atLeast }),
      success: answer<ReadonlyArray<ConversationId>>(),
      error: refused
    }),
    HttpApiEndpoint.post("standing", `${QUERY_PREFIX}standing`, {
      payload: Schema.Struct({
        ...atLeast,
        conv: ConversationIdForm,
        users: Schema.Array(UserIdForm).check(Schema.isMaxLength(STANDING_USERS))
      }),
      success: answer<{ readonly members: ReadonlyArray<UserId>; readonly head: Seq }>(),
      error: refused
    }),
    HttpApiEndpoint.post("receipts", `${QUERY_PREFIX}receipts`, {
      payload: Schema.Struct({ since: VectorForm, until: VectorForm }),
      success: answer<ReadonlyArray<MissedReceipt>>(),
      error: refused
    }),
    HttpApiEndpoint.post("acquainted", `${QUERY_PREFIX}acquainted`, {
      payload: Schema.Struct({
        ...user,
        ...atLeast,
        users: Schema.Array(UserIdForm).check(Schema.isMaxLength(PRESENCE_USERS))
      }),
      success: answer<ReadonlyArray<UserId>>(),
      error: refused
    })
  )
  .middleware(OfThisCluster)

/** The API. */
export const QueryApi = HttpApi.make("darda-queries").add(queries)
