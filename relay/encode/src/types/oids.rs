//! Oids of built-in types, which are the same on every server: arrays with their elements, and what a type is by its name.

/// Built-in array types by oid, each with its element type.
const ARRAYS: &[(u32, u32)] = &[
    (143, 142),
    (199, 114),
    (210, 71),
    (270, 75),
    (271, 5069),
    (272, 81),
    (273, 83),
    (629, 628),
    (651, 650),
    (719, 718),
    (775, 774),
    (791, 790),
    (1000, 16),
    (1001, 17),
    (1002, 18),
    (1003, 19),
    (1005, 21),
    (1006, 22),
    (1007, 23),
    (1008, 24),
    (1009, 25),
    (1010, 27),
    (1011, 28),
    (1012, 29),
    (1013, 30),
    (1014, 1042),
    (1015, 1043),
    (1016, 20),
    (1017, 600),
    (1018, 601),
    (1019, 602),
    (1020, 603),
    (1021, 700),
    (1022, 701),
    (1027, 604),
    (1028, 26),
    (1034, 1033),
    (1040, 829),
    (1041, 869),
    (1115, 1114),
    (1182, 1082),
    (1183, 1083),
    (1185, 1184),
    (1187, 1186),
    (1231, 1700),
    (1263, 2275),
    (1270, 1266),
    (1561, 1560),
    (1563, 1562),
    (2201, 1790),
    (2207, 2202),
    (2208, 2203),
    (2209, 2204),
    (2210, 2205),
    (2211, 2206),
    (2949, 2970),
    (2951, 2950),
    (3221, 3220),
    (3643, 3614),
    (3644, 3642),
    (3645, 3615),
    (3735, 3734),
    (3770, 3769),
    (3807, 3802),
    (3905, 3904),
    (3907, 3906),
    (3909, 3908),
    (3911, 3910),
    (3913, 3912),
    (3927, 3926),
    (4073, 4072),
    (4090, 4089),
    (4097, 4096),
    (4192, 4191),
    (5039, 5038),
    (6150, 4451),
    (6151, 4532),
    (6152, 4533),
    (6153, 4534),
    (6155, 4535),
    (6157, 4536),
];

/// Built-in types that a domain may name as its base type in the stream, by name.
const NAMES: &[(&str, u32)] = &[
    ("bit", 1560),
    ("bool", 16),
    ("box", 603),
    ("bpchar", 1042),
    ("bytea", 17),
    ("char", 18),
    ("cidr", 650),
    ("circle", 718),
    ("date", 1082),
    ("daterange", 3912),
    ("float4", 700),
    ("float8", 701),
    ("inet", 869),
    ("int2", 21),
    ("int2vector", 22),
    ("int4", 23),
    ("int4range", 3904),
    ("int8", 20),
    ("int8range", 3926),
    ("interval", 1186),
    ("json", 114),
    ("jsonb", 3802),
    ("line", 628),
    ("lseg", 601),
    ("macaddr", 829),
    ("macaddr8", 774),
    ("money", 790),
    ("name", 19),
    ("numeric", 1700),
    ("numrange", 3906),
    ("oid", 26),
    ("oidvector", 30),
    ("path", 602),
    ("point", 600),
    ("polygon", 604),
    ("text", 25),
    ("time", 1083),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("timetz", 1266),
    ("tsrange", 3908),
    ("tstzrange", 3910),
    ("tsvector", 3614),
    ("uuid", 2950),
    ("varbit", 1562),
    ("varchar", 1043),
    ("xml", 142),
];

/// Element types of which Debezium has no arrays (D9): name, xml, point, money, interval, varbit, refcursor.
const NO_ARRAYS: [u32; 7] = [19, 142, 600, 790, 1186, 1562, 1790];

/// The element type of a built-in array type.
pub(super) fn element(array: u32) -> Option<u32> {
    let at = ARRAYS.binary_search_by_key(&array, |&(array, _)| array).ok()?;
    ARRAYS.get(at).map(|&(_, element)| element)
}

/// The oid of a built-in type of that name.
pub(super) fn by_name(name: &str) -> Option<u32> {
    let at = NAMES.binary_search_by_key(&name, |&(name, _)| name).ok()?;
    NAMES.get(at).map(|&(_, oid)| oid)
}

/// Whether Debezium has arrays of that built-in type.
pub(super) fn has_debezium_array(element: u32) -> bool {
    !NO_ARRAYS.contains(&element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_can_be_searched() {
        assert!(ARRAYS.is_sorted() && NAMES.is_sorted());
        assert_eq!((element(1007), element(1020), element(22), by_name("int4")), (Some(23), Some(603), None, Some(23)));
    }
}
