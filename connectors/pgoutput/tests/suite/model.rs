//! An owned message with an encoder of its own, written from the manual and not from the decoder.

use relay_core::{Lsn, Oid, Relation, ReplicaIdentity, Value, Xid};
use relay_pgoutput::{
    Begin, BeginPrepare, Commit, CommitPrepared, Message, OldTuple, Prepare, RollbackPrepared, StreamAbort, StreamCommit,
    StreamStart, Tag, Timestamp, TupleData,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Model {
    Begin(Begin),
    Commit(Commit),
    Origin(Lsn, String),
    Relation(Option<Xid>, Relation),
    Type { xid: Option<Xid>, oid: Oid, namespace: String, name: String },
    Insert { xid: Option<Xid>, oid: Oid, new: Tuple },
    Update { xid: Option<Xid>, oid: Oid, old: Option<(Mark, Tuple)>, new: Tuple },
    Delete { xid: Option<Xid>, oid: Oid, old: (Mark, Tuple) },
    Truncate { xid: Option<Xid>, is_cascade: bool, restarts_identity: bool, oids: Vec<Oid> },
    Message { xid: Option<Xid>, is_transactional: bool, lsn: Lsn, prefix: String, content: Vec<u8> },
    StreamStart(StreamStart),
    StreamStop,
    StreamCommit(StreamCommit),
    StreamAbort(StreamAbort),
    TwoPhase { tag: Tag, lsns: [Lsn; 2], prepared: Timestamp, ended: Option<Timestamp>, xid: Xid, gid: String },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    Key,
    Full,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

pub(crate) type Tuple = Vec<Field>;

/// Writes fields one after another.
#[derive(Default)]
struct Frame(Vec<u8>);

// === impl Model ===

impl Model {
    pub(crate) fn of(message: &Message<'_>) -> Self {
        match *message {
            Message::Begin(begin) => Model::Begin(begin),
            Message::Commit(commit) => Model::Commit(commit),
            Message::Origin(origin) => Model::Origin(origin.commit_lsn, origin.name.into()),
            Message::Relation(relation) => Model::Relation(relation.xid, relation.to_relation()),
            Message::Type(t) => Model::Type { xid: t.xid, oid: t.oid, namespace: t.namespace.into(), name: t.name.into() },
            Message::Insert(insert) => Model::Insert { xid: insert.xid, oid: insert.oid, new: fields(&insert.new) },
            Message::Update(update) => {
                let old = update.old.as_ref().map(old);
                Model::Update { xid: update.xid, oid: update.oid, old, new: fields(&update.new) }
            }
            Message::Delete(delete) => Model::Delete { xid: delete.xid, oid: delete.oid, old: old(&delete.old) },
            Message::Truncate(t) => {
                let oids = t.oids().collect();
                Model::Truncate { xid: t.xid, is_cascade: t.is_cascade, restarts_identity: t.restarts_identity, oids }
            }
            Message::Message(m) => {
                let (prefix, content) = (m.prefix.into(), m.content.into());
                Model::Message { xid: m.xid, is_transactional: m.is_transactional, lsn: m.lsn, prefix, content }
            }
            Message::StreamStart(start) => Model::StreamStart(start),
            Message::StreamStop => Model::StreamStop,
            Message::StreamCommit(commit) => Model::StreamCommit(commit),
            Message::StreamAbort(abort) => Model::StreamAbort(abort),
            Message::BeginPrepare(BeginPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid }) => {
                two_phase(Tag::BeginPrepare, [prepare_lsn, end_lsn], prepare_time, None, xid, gid)
            }
            Message::Prepare(Prepare { prepare_lsn, end_lsn, prepare_time, xid, gid }) => {
                two_phase(Tag::Prepare, [prepare_lsn, end_lsn], prepare_time, None, xid, gid)
            }
            Message::StreamPrepare(Prepare { prepare_lsn, end_lsn, prepare_time, xid, gid }) => {
                two_phase(Tag::StreamPrepare, [prepare_lsn, end_lsn], prepare_time, None, xid, gid)
            }
            Message::CommitPrepared(CommitPrepared { commit_lsn, end_lsn, commit_time, xid, gid }) => {
                two_phase(Tag::CommitPrepared, [commit_lsn, end_lsn], commit_time, None, xid, gid)
            }
            Message::RollbackPrepared(r) => {
                let RollbackPrepared { prepare_end_lsn, rollback_end_lsn, prepare_time, rollback_time, xid, gid } = r;
                let lsns = [prepare_end_lsn, rollback_end_lsn];
                two_phase(Tag::RollbackPrepared, lsns, prepare_time, Some(rollback_time), xid, gid)
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = Frame::default();
        let f = &mut frame;
        match self {
            Model::Begin(begin) => f.byte(b'B').lsn(begin.commit_lsn).time(begin.commit_time).u32(begin.xid.0),
            Model::Commit(c) => f.byte(b'C').byte(0).lsn(c.commit_lsn).lsn(c.end_lsn).time(c.commit_time),
            Model::Origin(lsn, name) => f.byte(b'O').lsn(*lsn).name(name),
            Model::Relation(xid, relation) => f.byte(b'R').stream_xid(*xid).relation(relation),
            Model::Type { xid, oid, namespace, name } => f.byte(b'Y').stream_xid(*xid).u32(oid.0).namespace(namespace).name(name),
            Model::Insert { xid, oid, new } => f.byte(b'I').stream_xid(*xid).u32(oid.0).byte(b'N').tuple(new),
            Model::Update { xid, oid, old, new } => {
                f.byte(b'U').stream_xid(*xid).u32(oid.0);
                old.iter().for_each(|old| f.old(old));
                f.byte(b'N').tuple(new)
            }
            Model::Delete { xid, oid, old } => {
                f.byte(b'D').stream_xid(*xid).u32(oid.0).old(old);
                f
            }
            Model::Truncate { xid, is_cascade, restarts_identity, oids } => {
                let flags = u8::from(*is_cascade) + 2 * u8::from(*restarts_identity);
                f.byte(b'T').stream_xid(*xid).u32(oids.len() as u32).byte(flags);
                oids.iter().fold(f, |f, oid| f.u32(oid.0))
            }
            Model::Message { xid, is_transactional, lsn, prefix, content } => {
                f.byte(b'M').stream_xid(*xid).byte((*is_transactional).into()).lsn(*lsn).name(prefix).value(content)
            }
            Model::StreamStart(start) => f.byte(b'S').u32(start.xid.0).byte(start.is_first_segment.into()),
            Model::StreamStop => f.byte(b'E'),
            Model::StreamCommit(c) => f.byte(b'c').u32(c.xid.0).byte(0).lsn(c.commit_lsn).lsn(c.end_lsn).time(c.commit_time),
            Model::StreamAbort(abort) => {
                f.byte(b'A').u32(abort.xid.0).u32(abort.subxid.0);
                abort.at.iter().fold(f, |f, at| f.lsn(at.lsn).time(at.time))
            }
            Model::TwoPhase { tag, lsns: [first, second], prepared, ended, xid, gid } => {
                f.byte(tag.byte());
                if *tag != Tag::BeginPrepare {
                    f.byte(0);
                }
                f.lsn(*first).lsn(*second).time(*prepared);
                ended.iter().fold(f, |f, ended| f.time(*ended)).u32(xid.0).name(gid)
            }
        };
        frame.0
    }
}

fn two_phase(tag: Tag, lsns: [Lsn; 2], prepared: Timestamp, ended: Option<Timestamp>, xid: Xid, gid: &str) -> Model {
    Model::TwoPhase { tag, lsns, prepared, ended, xid, gid: gid.into() }
}

fn fields(tuple: &TupleData<'_>) -> Tuple {
    let row = tuple.row();
    let field = |index| match row.get(index).expect("a cell in its tuple") {
        Value::Null => Field::Null,
        Value::Unchanged => Field::Unchanged,
        Value::Text(text) => Field::Text(text.into()),
        Value::Binary(binary) => Field::Binary(binary.into()),
    };
    (0..row.len()).map(field).collect()
}

fn old(old: &OldTuple<'_>) -> (Mark, Tuple) {
    match old {
        OldTuple::Key(tuple) => (Mark::Key, fields(tuple)),
        OldTuple::Full(tuple) => (Mark::Full, fields(tuple)),
    }
}

// === impl Frame ===

impl Frame {
    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn u16(&mut self, number: usize) -> &mut Self {
        let number = u16::try_from(number).expect("a count of at most 65535");
        self.0.extend(number.to_be_bytes());
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn lsn(&mut self, lsn: Lsn) -> &mut Self {
        self.0.extend(lsn.0.to_be_bytes());
        self
    }

    fn time(&mut self, time: Timestamp) -> &mut Self {
        self.0.extend(time.0.to_be_bytes());
        self
    }

    fn name(&mut self, name: &str) -> &mut Self {
        self.0.extend(name.as_bytes());
        self.byte(0)
    }

    fn namespace(&mut self, name: &str) -> &mut Self {
        self.name(if name == "pg_catalog" { "" } else { name })
    }

    fn stream_xid(&mut self, xid: Option<Xid>) -> &mut Self {
        xid.iter().fold(self, |frame, xid| frame.u32(xid.0))
    }

    fn value(&mut self, value: &[u8]) -> &mut Self {
        self.u32(value.len() as u32).0.extend(value);
        self
    }

    fn tuple(&mut self, tuple: &[Field]) -> &mut Self {
        tuple.iter().fold(self.u16(tuple.len()), |frame, field| match field {
            Field::Null => frame.byte(b'n'),
            Field::Unchanged => frame.byte(b'u'),
            Field::Text(text) => frame.byte(b't').value(text),
            Field::Binary(binary) => frame.byte(b'b').value(binary),
        })
    }

    fn old(&mut self, (mark, tuple): &(Mark, Tuple)) {
        self.byte(if *mark == Mark::Key { b'K' } else { b'O' }).tuple(tuple);
    }

    fn relation(&mut self, relation: &Relation) -> &mut Self {
        let identity = match relation.identity {
            ReplicaIdentity::Default => b'd',
            ReplicaIdentity::Nothing => b'n',
            ReplicaIdentity::Full => b'f',
            ReplicaIdentity::Index => b'i',
        };
        self.u32(relation.oid.0).namespace(&relation.schema).name(&relation.name).byte(identity).u16(relation.columns.len());
        relation.columns.iter().fold(self, |frame, column| {
            let modifier = column.type_modifier as u32;
            frame.byte(column.is_key.into()).name(&column.name).u32(column.type_oid.0).u32(modifier)
        })
    }
}
