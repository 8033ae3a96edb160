//! Which columns make the key of a relation version, and in which order (event-format.md, section 3).

use super::rule::Capture;
use crate::error::PlanError;
use relay_core::catalog::Catalog;
use relay_core::{Kind, Relation, ReplicaIdentity};

/// Columns by index, in the order of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) columns: Vec<usize>,
    /// Where the catalog of now contradicts the message.
    pub(super) note: Option<String>,
}

/// The columns of the record key; none = null keys.
pub(super) fn message_key(rule: &Capture, relation: &Relation, catalog: &Catalog) -> Result<Chosen, PlanError> {
    if rule.key.is_empty() {
        return Ok(identity(relation, catalog));
    }
    let index = |name: &String| {
        relation.column(name).ok_or_else(|| PlanError {
            table: relation.to_string(),
            field: "key",
            column: name.clone(),
            message: format!("there is no column `{name}`, which `key` names"),
            hint: "name columns that the publication sends, in the case that the table has them".to_owned(),
            kind: Kind::ColumnMissing,
        })
    };
    Ok(Chosen { columns: rule.key.iter().map(index).collect::<Result<_, _>>()?, note: None })
}

/// The columns that tell the rows of the table apart: primary key, identity index or unique index.
pub(super) fn identity(relation: &Relation, catalog: &Catalog) -> Chosen {
    let marked: Vec<usize> = (0..relation.columns.len()).filter(|&index| is_marked(relation, index)).collect();
    let unique = || listed(relation, &catalog.unique_index, "unique index");
    let primary_key = || match catalog.primary_key.is_empty() {
        true => unique(),
        false => listed(relation, &catalog.primary_key, "primary key"),
    };
    match relation.identity {
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => primary_key(),
        _ if marked.is_empty() => unique(),
        ReplicaIdentity::Default => ordered(relation, marked, &catalog.primary_key, "primary key"),
        ReplicaIdentity::Index => {
            let is_covered = |name: &str| relation.column(name).is_some_and(|index| is_marked(relation, index));
            if !catalog.primary_key.is_empty() && catalog.primary_key.iter().all(|name| is_covered(name)) {
                primary_key()
            } else {
                ordered(relation, marked, &catalog.identity_index, "identity index")
            }
        }
    }
}

fn is_marked(relation: &Relation, index: usize) -> bool {
    relation.columns.get(index).is_some_and(|column| column.is_key)
}

/// The columns that the catalog lists and the message has.
fn listed(relation: &Relation, names: &[Box<str>], what: &str) -> Chosen {
    let columns: Vec<usize> = names.iter().filter_map(|name| relation.column(name)).collect();
    let note = (columns.len() != names.len()).then(|| ahead(relation, what));
    Chosen { columns, note }
}

/// The columns that the message marks, in the order of the catalog: the message says which, the catalog only how they are ordered.
fn ordered(relation: &Relation, mut marked: Vec<usize>, names: &[Box<str>], what: &str) -> Chosen {
    let place = |index: &usize| {
        let name = relation.columns.get(*index).map(|column| &column.name);
        names.iter().position(|listed| Some(listed) == name)
    };
    let is_same = marked.len() == names.len() && marked.iter().all(|index| place(index).is_some());
    // A column that the catalog does not list comes behind those it lists; the sort keeps the table's order.
    marked.sort_by_key(|index| place(index).unwrap_or(usize::MAX));
    let is_certain = is_same || (names.is_empty() && marked.len() == 1);
    Chosen { columns: marked, note: (!is_certain).then(|| ahead(relation, what)) }
}

fn ahead(relation: &Relation, what: &str) -> String {
    format!("schema.catalog_ahead: the {what} of {relation} is not the one that the log has; the columns of the log are kept")
}
