//! What the catalog of now adds to a Relation message: the order of keys, nullability, defaults, and what types are made of.

use crate::lsn::Oid;

/// Read once per relation version, restricted to what the plan of that version needs; empty where the table is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Columns of the primary key in index order; empty without one.
    pub primary_key: Vec<Box<str>>,
    /// Columns of the index of REPLICA IDENTITY USING INDEX in index order; empty with another identity.
    pub identity_index: Vec<Box<str>>,
    /// Columns of the first unique index by name that is whole, and whose columns are plain and NOT NULL.
    pub unique_index: Vec<Box<str>>,
    /// The columns that exist now.
    pub columns: Vec<CatalogColumn>,
    /// Every type that is not built in and that the columns lead to: through domains, arrays and ranges.
    pub types: Vec<CatalogType>,
}

/// One column as the catalog of now has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogColumn {
    /// Column name, exact case.
    pub name: Box<str>,
    /// Whether NULL is allowed, also by the column's domain.
    pub is_nullable: bool,
    /// `pg_get_expr` of the default, if it has one.
    pub default: Option<Box<str>>,
}

/// One type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogType {
    /// Its oid.
    pub oid: Oid,
    /// Its name without schema.
    pub name: Box<str>,
    /// What it is made of.
    pub form: TypeForm,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeForm {
    /// Nothing that a reader of its text must know.
    Plain,
    /// Labels by enumsortorder.
    Enum(Vec<Box<str>>),
    /// A base type and its modifier; domains over domains are followed to the end.
    Domain(Oid, i32),
    /// Elements of this type, with this delimiter.
    Array(Oid, u8),
    /// A row type.
    Composite,
    /// A range or multirange.
    Range,
}

// === impl Catalog ===

impl Catalog {
    /// The column of that exact name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&CatalogColumn> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// The type of that oid.
    #[must_use]
    pub fn find_type(&self, oid: Oid) -> Option<&CatalogType> {
        self.types.iter().find(|found| found.oid == oid)
    }
}
