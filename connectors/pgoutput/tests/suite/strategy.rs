//! Random messages of every type, for inside and outside of a stream block.

use crate::model::{Field, Mark, Model, Tuple};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use relay_core::{Column, Lsn, Oid, Relation, ReplicaIdentity, Xid};
use relay_pgoutput::{AbortPoint, Begin, Commit, StreamAbort, StreamCommit, StreamStart, Tag, Timestamp};

/// A message that may come in that state.
pub(crate) fn message(in_stream: bool) -> BoxedStrategy<Model> {
    if in_stream {
        return prop_oneof![4 => row(true), 2 => shape(true), 1 => origin(), 1 => Just(Model::StreamStop)].boxed();
    }
    prop_oneof![4 => row(false), 2 => shape(false), 1 => origin(), 3 => boundary(), 2 => two_phase()].boxed()
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn xid() -> impl Strategy<Value = Xid> {
    any::<u32>().prop_map(Xid)
}

fn oid() -> impl Strategy<Value = Oid> {
    any::<u32>().prop_map(Oid)
}

fn name() -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..12).prop_map(String::from_iter)
}

fn namespace() -> impl Strategy<Value = String> {
    name().prop_map(|name| if name.is_empty() { "pg_catalog".into() } else { name })
}

fn stream_xid(in_stream: bool) -> BoxedStrategy<Option<Xid>> {
    if in_stream { xid().prop_map(Some).boxed() } else { Just(None).boxed() }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let field =
        prop_oneof![Just(Field::Null), Just(Field::Unchanged), bytes().prop_map(Field::Text), bytes().prop_map(Field::Binary)];
    vec(field, 0..9)
}

fn old() -> impl Strategy<Value = (Mark, Tuple)> {
    (prop_oneof![Just(Mark::Key), Just(Mark::Full)], tuple())
}

fn row(in_stream: bool) -> BoxedStrategy<Model> {
    let id = || (stream_xid(in_stream), oid());
    prop_oneof![
        (id(), tuple()).prop_map(|((xid, oid), new)| Model::Insert { xid, oid, new }),
        (id(), option::of(old()), tuple()).prop_map(|((xid, oid), old, new)| Model::Update { xid, oid, old, new }),
        (id(), old()).prop_map(|((xid, oid), old)| Model::Delete { xid, oid, old }),
        (stream_xid(in_stream), any::<bool>(), any::<bool>(), vec(oid(), 0..5))
            .prop_map(|(xid, is_cascade, restarts_identity, oids)| Model::Truncate { xid, is_cascade, restarts_identity, oids }),
        (stream_xid(in_stream), any::<bool>(), lsn(), name(), bytes()).prop_map(
            |(xid, is_transactional, lsn, prefix, content)| Model::Message { xid, is_transactional, lsn, prefix, content }
        ),
    ]
    .boxed()
}

fn shape(in_stream: bool) -> BoxedStrategy<Model> {
    let column = (name(), oid(), any::<i32>(), any::<bool>()).prop_map(|(name, type_oid, type_modifier, is_key)| {
        let name = name.into();
        Column { name, type_oid, type_modifier, type_name: None, is_key }
    });
    let identity = prop_oneof![
        Just(ReplicaIdentity::Default),
        Just(ReplicaIdentity::Nothing),
        Just(ReplicaIdentity::Full),
        Just(ReplicaIdentity::Index)
    ];
    let relation =
        (oid(), namespace(), name(), identity, vec(column, 0..9)).prop_map(|(oid, schema, name, identity, columns)| {
            let (schema, name) = (schema.into(), name.into());
            Relation { oid, schema, name, identity, columns }
        });
    prop_oneof![
        (stream_xid(in_stream), relation).prop_map(|(xid, relation)| Model::Relation(xid, relation)),
        (stream_xid(in_stream), oid(), namespace(), name()).prop_map(|(xid, oid, namespace, name)| Model::Type {
            xid,
            oid,
            namespace,
            name
        }),
    ]
    .boxed()
}

fn origin() -> BoxedStrategy<Model> {
    (lsn(), name()).prop_map(|(lsn, name)| Model::Origin(lsn, name)).boxed()
}

fn boundary() -> BoxedStrategy<Model> {
    let at = (lsn(), time()).prop_map(|(lsn, time)| AbortPoint { lsn, time });
    prop_oneof![
        (lsn(), time(), xid()).prop_map(|(commit_lsn, commit_time, xid)| Model::Begin(Begin { commit_lsn, commit_time, xid })),
        (lsn(), lsn(), time()).prop_map(|(commit_lsn, end_lsn, commit_time)| Model::Commit(Commit {
            commit_lsn,
            end_lsn,
            commit_time
        })),
        (xid(), any::<bool>()).prop_map(|(xid, is_first_segment)| Model::StreamStart(StreamStart { xid, is_first_segment })),
        (xid(), lsn(), lsn(), time()).prop_map(|(xid, commit_lsn, end_lsn, commit_time)| {
            Model::StreamCommit(StreamCommit { xid, commit_lsn, end_lsn, commit_time })
        }),
        (xid(), xid(), option::of(at)).prop_map(|(xid, subxid, at)| Model::StreamAbort(StreamAbort { xid, subxid, at })),
    ]
    .boxed()
}

fn two_phase() -> BoxedStrategy<Model> {
    let tag = prop_oneof![
        Just(Tag::BeginPrepare),
        Just(Tag::Prepare),
        Just(Tag::StreamPrepare),
        Just(Tag::CommitPrepared),
        Just(Tag::RollbackPrepared)
    ];
    (tag, [lsn(), lsn()], time(), time(), xid(), name())
        .prop_map(|(tag, lsns, prepared, ended, xid, gid)| {
            let ended = (tag == Tag::RollbackPrepared).then_some(ended);
            Model::TwoPhase { tag, lsns, prepared, ended, xid, gid }
        })
        .boxed()
}
