-- Every type of the format, as real Debezium and relay are shown it. Run once as superuser; the part after the line
-- `-- stream` is run when the snapshot has been read. Each paragraph is sent as one.
--
-- Debezium tells a type by its bare name: no table may be called as a type is. Each row of cases.type becomes a column of its family's tables, named after the type:
--   types.<family>_plain     nullable columns, one row per sample, and a row of NULLs (id 0)
--   types.<family>_default   NOT NULL with a default; id 0 takes every default
--   types.<family>_required  NOT NULL without one: what a DELETE's old row has to invent
--   types.<family>_array     arrays: NULL, empty, all samples with a NULL among them, the first sample alone
--   types.<family>_key       all columns are the key; a family with a type that no index takes has no primary key
CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext; CREATE EXTENSION isn;
CREATE SCHEMA cases; CREATE SCHEMA types;
CREATE TYPE mood AS ENUM ('c', 'a', 'b');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN age AS int CHECK (VALUE >= 0);
CREATE DOMAIN price AS numeric(7,3);
CREATE DOMAIN label AS varchar(10);
CREATE DOMAIN code AS char(4);
CREATE DOMAIN instant AS timestamp(3);
CREATE DOMAIN cheap AS price;
-- PostGIS and pgvector as the stream shows them: types by name, their values as text. Nothing in between is theirs.
CREATE PROCEDURE cases.text_type(name text) LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE format('CREATE TYPE public.%I', name);
  EXECUTE format('CREATE FUNCTION public.%I(cstring) RETURNS public.%I AS ''textin'' LANGUAGE internal IMMUTABLE STRICT', name || '_in', name);
  EXECUTE format('CREATE FUNCTION public.%I(public.%I) RETURNS cstring AS ''textout'' LANGUAGE internal IMMUTABLE STRICT', name || '_out', name);
  EXECUTE format('CREATE TYPE public.%I (INPUT = public.%I, OUTPUT = public.%I, STORAGE = extended)', name, name || '_in', name || '_out');
END $$;
CALL cases.text_type('geometry'); CALL cases.text_type('geography');
CALL cases.text_type('vector'); CALL cases.text_type('halfvec'); CALL cases.text_type('sparsevec');

CREATE TABLE cases.type (at serial, family text, name text, type text, standard text, samples text[]);
INSERT INTO cases.type (family, name, type, standard, samples) VALUES
('integer', 'bool', 'boolean', 'true', '{true,false}'),
('integer', 'int2', 'smallint', '7', '{-32768,0,32767}'),
('integer', 'int4', 'integer', '-7', '{-2147483648,0,2147483647}'),
('integer', 'int8', 'bigint', '70000000000', '{-9223372036854775808,0,9223372036854775807}'),
('integer', 'oid', 'oid', '9', '{0,4000000000,4294967295}'),
('float', 'real', 'real', '1.5', '{3.3,-0,0.001,9.99e-4,9999999,1e7,1.23456789e7,1.4e-45,-3.4028235e38,NaN,Infinity,-Infinity,1,1e10,0.1,8388608.5}'),
('float', 'double', 'double precision', '-2.5', '{3.3,-0,0.001,9.9e-4,9999999,1e7,123456789.125,4.9e-324,-1.7976931348623157e308,NaN,Infinity,-Infinity,1,1e21,0.1,1e-5}'),
('decimal', 'n10_2', 'numeric(10,2)', '1.50', '{1.10,-1.10,0,128,-99999999.99,99999999.99}'),
('decimal', 'n3_2', 'numeric(3,2)', '0', '{1.1,-0.01,1.27,1.28,2.55,2.56}'),
('decimal', 'n5_0', 'numeric(5)', '12', '{1,-1,127,-128,-129,99999}'),
('decimal', 'n38_10', 'numeric(38,10)', '-3.25', '{1234567890123456789012345678.0123456789,-1234567890123456789012345678.0123456789,0,0.0000000001,1e27,-1}'),
('decimal', 'n4_4', 'numeric(4,4)', '0.5', '{0.1234,-0.9999,0,0.0001,0.0128,0.5}'),
('decimal', 'n22_4', 'numeric(22,4)', '22.22', '{22.22,100,0,-0.0001,123456789012345678.9,1}'),
('decimal', 'free', 'numeric', '3.140', '{10.1111,0,100,1.500,-0.00001,1e30,1e-30,-99999999999999999999.99,22.2200}'),
('decimal', 'money', 'money', '9.99', '{1234.11,-1234.11,0,92233720368547758.07,-92233720368547758.08,0.5}'),
('special', 'n10_2', 'numeric(10,2)', '1', '{NaN,1}'),
('special', 'free', 'numeric', '1', '{NaN,Infinity,-Infinity,1}'),
('negative', 'n5_m2', 'numeric(5,-2)', '100', '{12345,-100,0}'),
('text', 'text', 'text', E'it''s "x"\\', ARRAY['Hello World', '', E'"\\/\b\f\n\r\t\x01\x1f\x7f', U&'\00e9\2028\2029\ffff \+01f600\+10ffff', 'NULL', '{}']),
('text', 'varchar', 'varchar', 'NULL', '{v,"",long value}'),
('text', 'varchar5', 'varchar(5)', 'abc', '{abcde,"",é}'),
('text', 'char4', 'char(4)', 'ab', '{cone,a,""}'),
('text', 'char', '"char"', 'x', '{a,z}'),
('text', 'citext', 'citext', 'CiText', '{Ab,aB,""}'),
('text', 'uuid', 'uuid', '00000000-0000-4000-8000-00000000000a', '{123e4567-e89b-12d3-a456-426614174000,00000000-0000-0000-0000-000000000000}'),
('name', 'name', 'name', 'nobody', '{pg_class,""}'),
('document', 'json', 'json', '{"a":  1}', ARRAY['{"bar": "baz"}', '[1, 2.50,  null]', 'null', '"x"', '{"b":1,"a":{"c":"\u00e9 \" /"},"b":2}', '12345678901234567890.10']),
('document', 'jsonb', 'jsonb', '{"a": 1}', ARRAY['{"bar": "baz"}', '[1, 2.50,  null]', 'null', '"x"', '{"b":1,"a":{"c":"\u00e9 \" /"},"b":2}', '12345678901234567890.10']),
('document', 'xml', 'xml', '<d/>', ARRAY['<a b="c">é&amp;</a>', '<r><s/>
</r>']),
('bit', 'bit1', 'bit', '1', '{1,0}'),
('bit', 'bit2', 'bit(2)', '10', '{11,00,01}'),
('bit', 'bit7', 'bit(7)', '1010101', '{1000000,0000001,1111111}'),
('bit', 'bit64', 'bit(64)', '0000000000000000000000000000000000000000000000000000000000000101', '{1000000000000000000000000000000000000000000000000000000000000000,0000000000000000000000000000000000000000000000000000000100000000,1111111111111111111111111111111111111111111111111111111111111111}'),
('bit', 'varbit1', 'varbit(1)', '1', '{1,0}'),
('emptybit', 'varbit1', 'varbit(1)', '1', '{""}'),
('bit', 'varbit9', 'varbit(9)', '101', '{100000000,000000001,""}'),
('bit', 'varbit', 'varbit', '11', '{1010101010101010101,0,""}'),
('bytes', 'bytea', 'bytea', '\x0102', ARRAY['\x010203', '\xfbff', '\x', '\x00', '\x5f5f64656266f09f9880']),
('date', 'date', 'date', '2016-11-04', '{2016-11-04,1970-01-01,1969-12-31,0001-01-01,9999-12-31,1582-10-04,2000-02-29}'),
('date', 'time0', 'time(0)', '01:02:03', '{13:51:30,00:00:00,23:59:59}'),
('date', 'time3', 'time(3)', '01:02:03.004', '{13:51:30.123,00:00:00,23:59:59.999}'),
('date', 'time4', 'time(4)', '01:02:03.0045', '{13:51:30.1234,00:00:00,23:59:59.9999}'),
('date', 'time6', 'time(6)', '01:02:03.000004', '{13:51:30.123456,00:00:00,23:59:59.999999}'),
('date', 'time', 'time', '01:02:03', '{13:51:30.123456,13:51:30,00:00:00.000001,23:59:59.999999}'),
('date', 'timetz', 'timetz', '01:02:03+00', '{13:51:30.123789+02,13:51:30+00,24:00:00+00,24:00:00+02,24:00:00-08,00:00:00+15:59,13:51:30.5-05:30}'),
('date', 'timetz3', 'timetz(3)', '01:02:03+00', '{13:51:30.123+02,00:00:00.1-01}'),
('midnight', 'time0', 'time(0)', '24:00', '{24:00:00}'),
('midnight', 'time3', 'time(3)', '24:00', '{24:00:00}'),
('midnight', 'time', 'time', '24:00', '{24:00:00}'),
('farday', 'date', 'date', 'infinity', '{infinity,-infinity,0044-03-15 BC,4713-01-01 BC,5874897-12-31,10000-01-01}'),
('moment', 'ts0', 'timestamp(0)', '2016-11-04 13:51:30', '{2016-11-04 13:51:30,1970-01-01 00:00:00,1969-12-31 23:59:59}'),
('moment', 'ts3', 'timestamp(3)', '2016-11-04 13:51:30.12', '{2016-11-04 13:51:30.123,1970-01-01 00:00:00.001,1969-12-31 23:59:59.999}'),
('moment', 'ts4', 'timestamp(4)', '2016-11-04 13:51:30.12', '{2016-11-04 13:51:30.1234,1970-01-01 00:00:00.001,1969-12-31 23:59:59.9999}'),
('moment', 'ts6', 'timestamp(6)', '2016-11-04 13:51:30.12', '{2016-11-04 13:51:30.123456,1970-01-01 00:00:00,1969-12-31 23:59:59.999999}'),
('moment', 'ts', 'timestamp', '2016-11-04 13:51:30', '{2016-11-04 13:51:30.123456,2016-11-04 13:51:30,1677-09-22 00:00:00,2262-04-10 00:00:00,1969-12-31 23:59:59.999999}'),
('moment', 'tz0', 'timestamptz(0)', '2016-11-04 13:51:30+02', '{2016-11-04 13:51:30+02,1970-01-01 00:00:00+00,infinity,-infinity}'),
('moment', 'tz3', 'timestamptz(3)', '2016-11-04 13:51:30.12+02', '{2016-11-04 13:51:30.123+02,1970-01-01 00:00:00+00,infinity,-infinity}'),
('moment', 'tz6', 'timestamptz(6)', '2016-11-04 13:51:30+00', '{2016-11-04 13:51:30.123456+02,1970-01-01 00:00:00+00,infinity,-infinity}'),
('moment', 'tz', 'timestamptz', '2016-11-04 13:51:30.1+00', '{2016-11-04 13:51:30.123456+02,2016-11-04 13:51:30+00,infinity,-infinity,0001-01-01 00:00:00+00,4714-12-31 23:59:59.999999+00 BC,21016-11-04 06:51:30.123456+00,294276-12-31 23:59:59.999999+00}'),
('farmoment', 'ts3', 'timestamp(3)', '2016-11-04 13:51:30', '{0001-01-01 00:00:00,infinity,-infinity,4714-12-31 23:59:59.999 BC,21016-11-04 06:51:30.123}'),
('farmoment', 'ts', 'timestamp', '2016-11-04 13:51:30', '{1677-09-21 00:12:44,1677-09-21 00:12:45,2262-04-11 23:47:16.854775,0001-01-01 00:00:00,infinity,-infinity,4714-12-31 23:59:59.999999 BC,21016-11-04 06:51:30.123456,294247-01-10 04:00:54.775807}'),
('beyond', 'ts3', 'timestamp(3)', '2016-11-04 13:51:30', '{294247-01-10 04:00:54.776,294276-12-31 23:59:59.999}'),
('beyond', 'ts', 'timestamp', '2016-11-04 13:51:30', '{294247-01-10 04:00:54.775808,294276-12-31 23:59:59.999999}'),
('interval', 'interval', 'interval', '1 day', '{1 year,1 year 2 mons 3 days 04:05:06.78,-1 days +02:03:00,00:00:00,-1 years -2 mons +3 days -04:05:06.000007,178000000 years,-178000000 years,2147483647 hours,1 mon,00:00:00.000001}'),
('interval', 'interval0', 'interval(0)', '1 mon', '{1 day 00:00:01,-00:00:59}'),
('network', 'inet', 'inet', '10.0.0.1', '{192.168.2.0/12,192.168.2.1,::1,2001:db8::/32}'),
('network', 'cidr', 'cidr', '10.0.0.0/8', '{192.168.100.128/25,10.1.2.3/32,2001:4f8:3:ba::/64}'),
('network', 'macaddr', 'macaddr', '08:00:2b:01:02:03', '{08:00:2b:01:02:03,ff:ff:ff:ff:ff:ff}'),
('network', 'macaddr8', 'macaddr8', '08:00:2b:01:02:03:04:05', '{08:00:2b:01:02:03:04:05}'),
('range', 'int4range', 'int4range', '[1,2)', '{"[1000,6000)",empty,"(,5]","[7,)"}'),
('range', 'int8range', 'int8range', '[1,2)', '{"[5000000000,6000000000)",empty}'),
('range', 'numrange', 'numrange', '[1,2)', '{"[5.3,6.3)","(,)",empty,"(1.0,1.00]"}'),
('range', 'tsrange', 'tsrange', '[2019-03-31,)', '{"[\"2019-03-31 15:30:00\",infinity)",empty,"(\"0044-03-15 00:00:00 BC\",\"2019-03-31 15:30:00.5\"]"}'),
('range', 'tstzrange', 'tstzrange', '[2019-03-31,)', '{"[\"2017-06-05 11:29:12.549426+00\",)",empty}'),
('range', 'daterange', 'daterange', '[2019-03-31,)', '{"[2019-03-31,infinity)",empty,"(,2020-01-01)"}'),
('made', 'mood', 'mood', 'a', '{a,b,c}'),
('made', 'age', 'age', '5', '{0,42}'),
('made', 'price', 'price', '1.5', '{1.5,-2.125}'),
('made', 'label', 'label', 'x', '{abc,""}'),
('made', 'code', 'code', 'y', '{ab,abcd}'),
('made', 'instant', 'instant', '2016-11-04 13:51:30.12', '{2016-11-04 13:51:30.123}'),
('made', 'cheap', 'cheap', '0.5', '{0.125}'),
('tree', 'ltree', 'ltree', 'Top', '{Top.Collections,a,""}'),
('tree', 'tsvector', 'tsvector', 'a:1', ARRAY['''a'':1A ''cat'':5 ''it''''s''', '']),
('hstore', 'hstore', 'hstore', 'd=>1', ARRAY['key1=>val1', 'n=>NULL', '', '"q\"\\ é"=>"a, b=>\"c\""']),
('hstores', 'hstore', 'hstore', 'd=>1', ARRAY['key2=>NULL, key1=>val1, "a b"=>"1", z=>""']),
('shape', 'point', 'point', '(1,2)', '{"(1,1)","(-0.5,1e300)","(NaN,Infinity)"}'),
('shape', 'line', 'line', '{1,2,3}', ARRAY['{1,2,3}', '{-1,0.5,0}']),
('shape', 'lseg', 'lseg', '[(0,0),(1,1)]', '{"[(0,0),(1.5,2)]"}'),
('shape', 'box', 'box', '(1,1),(0,0)', '{"(1,1),(0,0)","(3,4),(-1,2)"}'),
('shape', 'path', 'path', '[(0,0),(1,1)]', '{"[(0,0),(1,1),(2,0)]","((0,0),(1,1),(2,0))"}'),
('shape', 'polygon', 'polygon', '((0,0),(1,1),(1,0))', '{"((0,0),(0,1),(1,1),(0,0))","((0,0),(1,1),(1,0))"}'),
('shape', 'circle', 'circle', '<(1,2),3>', '{"<(10,4),10>","<(0,0),0.5>"}'),
('postgis', 'geometry', 'geometry', '0101000000000000000000F03F000000000000F03F', '{0101000000000000000000F03F000000000000F03F,0101000020E6100000000000000000F03F000000000000F03F,010700000000000000}'),
('postgis', 'geography', 'geography', '0101000020E6100000000000000000F03F000000000000F03F', '{0101000020E6100000000000000000F03F000000000000F03F}'),
('pgvector', 'vector', 'vector', '[0,0]', ARRAY['[1,2,3]', '[0.1,-2.5e-7]']),
('pgvector', 'halfvec', 'halfvec', '[0]', ARRAY['[1,2.5]', '[0.1]']),
('sparse', 'sparsevec', 'sparsevec', '{}/3', ARRAY['{1:1,3:2}/5', '{2:0.5}/2']),
('isn', 'isbn', 'isbn', '0-393-04002-X', '{0-393-04002-X}'),
('isn', 'ean13', 'ean13', '978-0-393-04002-9', '{978-0-393-04002-9}'),
('isn', 'isbn13', 'isbn13', '978-0-393-04002-9', '{978-0-393-04002-9}'),
('isn', 'ismn', 'ismn', 'M-3452-4680-5', '{M-3452-4680-5}'),
('isn', 'issn', 'issn', '1436-4522', '{1436-4522}'),
('isn', 'upc', 'upc', '220356483481', '{220356483481}'),
('unknown', 'composite', 'pair', '(1,x)', '{"(1,x)","(,\"a \"\"q\"\"\")"}'),
('unknown', 'tsquery', 'tsquery', '''a''', '{"''fat'' & ( ''rat'' | ''cat'' )"}'),
('unknown', 'pg_lsn', 'pg_lsn', '0/1', '{16/B374D848}'),
('unknown', 'multirange', 'int4multirange', '{}', ARRAY['{[1,3),[5,8)}', '{}']),
('unknown', 'pg_snapshot', 'pg_snapshot', '1:1:', '{10:20:10\,14}'),
('unknown', 'xid', 'xid', '1', '{4294967295}'),
('unknown', 'xid8', 'xid8', '1', '{18446744073709551615}'),
('unknown', 'cid', 'cid', '1', '{7}'),
('unknown', 'tid', 'tid', '(0,1)', '{"(4,2)"}'),
('unknown', 'regclass', 'regclass', 'pg_class', '{pg_class}'),
('unknown', 'jsonpath', 'jsonpath', '$', ARRAY['$."a"[*]?(@ > 1)']),
('unknown', 'lquery', 'lquery', '*', '{Top.*}'),
('vectors', 'int2vector', 'int2vector', '1', '{1 2,-1}'),
('vectors', 'oidvector', 'oidvector', '1', '{1 4000000000,7}');

-- Families with values that Debezium cannot represent (null, or the end of the connector where no null may be): nullable columns only.
CREATE FUNCTION cases.fatal() RETURNS text[] LANGUAGE sql AS 'SELECT ''{special,name,emptybit,beyond,farmoment}''::text[]';
-- Families with types for which Debezium has nothing to invent: their rows are not deleted where no null may be.
CREATE FUNCTION cases.uninventable() RETURNS text[] LANGUAGE sql AS 'SELECT ''{sparse}''::text[]';
CREATE PROCEDURE cases.build() LANGUAGE plpgsql AS $$
DECLARE f record; k text;
BEGIN
  FOR f IN SELECT family, string_agg(quote_ident(name), ', ' ORDER BY at) AS columns,
      string_agg(format('%I %s', name, type), ', ' ORDER BY at) AS plain,
      string_agg(format('%I %s NOT NULL', name, type), ', ' ORDER BY at) AS required,
      string_agg(format('%I %s NOT NULL DEFAULT %L', name, type, standard), ', ' ORDER BY at) AS standard,
      string_agg(format('%I %s[]', name, type), ', ' ORDER BY at) AS arrays
    FROM cases.type GROUP BY family ORDER BY min(at)
  LOOP
    EXECUTE format('CREATE TABLE types.%I (id int PRIMARY KEY, %s)', f.family || '_plain', f.plain);
    CONTINUE WHEN f.family = ANY (cases.fatal());
    EXECUTE format('CREATE TABLE types.%I (id int PRIMARY KEY, %s)', f.family || '_default', f.standard);
    EXECUTE format('CREATE TABLE types.%I (id int PRIMARY KEY, %s)', f.family || '_required', f.required);
    EXECUTE format('CREATE TABLE types.%I (id int PRIMARY KEY, %s)', f.family || '_array', f.arrays);
    k := f.family || '_key';
    BEGIN
      EXECUTE format('CREATE TABLE types.%I (%s, x int, PRIMARY KEY (%s))', k, f.plain, f.columns);
    EXCEPTION WHEN undefined_object THEN
      EXECUTE format('CREATE TABLE types.%I (%s, x int)', k, f.required);
      EXECUTE format('ALTER TABLE types.%I REPLICA IDENTITY FULL', k);
    END;
  END LOOP;
END $$;
CALL cases.build();

-- Defaults that are no plain literals, on nullable columns too, and NULL in the place of one.
CREATE TABLE types.odd_default (id serial PRIMARY KEY, big bigserial, small smallserial, made uuid DEFAULT gen_random_uuid(),
  at timestamptz DEFAULT now(), sum int DEFAULT 1 + 1, nothing text DEFAULT NULL::text, word text DEFAULT 'NULL', quote text DEFAULT 'it''s',
  list int[] DEFAULT '{1,2}', data bytea DEFAULT '\x01', flag boolean DEFAULT true, n int DEFAULT 5, plain int, cash money DEFAULT 1.5,
  day date DEFAULT '2020-02-29', today date DEFAULT CURRENT_DATE, short varchar(3) DEFAULT 'ab', fix char(4) DEFAULT 'ab', ratio real DEFAULT 1.5,
  dec numeric(5,2) DEFAULT 2.5, word_required text NOT NULL DEFAULT upper('x'), expr text NOT NULL DEFAULT 'a' || 'b');
-- Several dimensions, and lower bounds other than 1.
CREATE TABLE types.nested (id int PRIMARY KEY, int4 int[][], text text[]);
CREATE TABLE types.bounds (id int PRIMARY KEY, int4 int[], text text[]);

-- Values that are stored out of line, so that an UPDATE elsewhere leaves them out of the stream.
CREATE TABLE types.toast (id int PRIMARY KEY, n int);
CREATE TABLE types.toast_required (id int PRIMARY KEY, n int);
CREATE TABLE cases.toast (at serial, name text, type text, value text, is_required boolean DEFAULT false);
INSERT INTO cases.toast (name, type, value) VALUES
('text', 'text', 'repeat(''t'', 90)'), ('varchar', 'varchar(100)', 'repeat(''v'', 90)'), ('char', 'char(90)', 'repeat(''c'', 90)'),
('citext', 'citext', 'repeat(''i'', 90)'), ('json', 'json', 'to_json(repeat(''j'', 90))'), ('jsonb', 'jsonb', 'to_jsonb(repeat(''b'', 90))'),
('xml', 'xml', 'xmlparse(content repeat(''x'', 90))'), ('bytea', 'bytea', 'convert_to(repeat(''y'', 90), ''UTF8'')'),
('text_array', 'text[]', 'array_fill(''t''::text, ARRAY[20])'), ('varchar_array', 'varchar[]', 'array_fill(''v''::varchar, ARRAY[20])'),
('char_array', 'char(2)[]', 'array_fill(''c''::char(2), ARRAY[20])'), ('json_array', 'json[]', 'array_fill(''1''::json, ARRAY[20])'),
('jsonb_array', 'jsonb[]', 'array_fill(''1''::jsonb, ARRAY[20])'), ('bytea_array', 'bytea[]', 'array_fill(''\x01''::bytea, ARRAY[20])'),
('int_array', 'int[]', 'array_fill(1, ARRAY[30])'), ('bigint_array', 'bigint[]', 'array_fill(1::bigint, ARRAY[20])'),
('date_array', 'date[]', 'array_fill(''2020-01-01''::date, ARRAY[30])'),
('uuid_array', 'uuid[]', 'array_fill(''00000000-0000-4000-8000-00000000000a''::uuid, ARRAY[10])'),
('hstore', 'hstore', 'hstore(''k'', repeat(''h'', 90))'), ('tsvector', 'tsvector', 'array_to_tsvector(ARRAY[repeat(''l'', 90)])'),
('numrange', 'numrange', 'numrange(repeat(''1'', 100)::numeric, repeat(''2'', 100)::numeric)'), ('numeric', 'numeric', 'repeat(''7'', 200)::numeric'),
('numeric_sized', 'numeric(250,2)', 'repeat(''7'', 200)::numeric'), ('varbit', 'varbit', 'repeat(''10'', 400)::varbit'),
('path', 'path', '(''['' || repeat(''(1,1),'', 9) || ''(2,2)]'')::path'), ('polygon', 'polygon', '(''('' || repeat(''(1,1),'', 9) || ''(2,2))'')::polygon'),
('numeric_array', 'numeric[]', 'array_fill(1.5, ARRAY[20])'), ('real_array', 'real[]', 'array_fill(1.5::real, ARRAY[30])'),
('double_array', 'double precision[]', 'array_fill(1.5::float8, ARRAY[20])'), ('bool_array', 'boolean[]', 'array_fill(true, ARRAY[90])'),
('smallint_array', 'smallint[]', 'array_fill(1::smallint, ARRAY[50])'), ('timestamp_array', 'timestamp[]', 'array_fill(''2020-01-01''::timestamp, ARRAY[20])'),
('timestamptz_array', 'timestamptz[]', 'array_fill(''2020-01-01''::timestamptz, ARRAY[20])'), ('time_array', 'time[]', 'array_fill(''01:00''::time, ARRAY[20])'),
('mood_array', 'mood[]', 'array_fill(''a''::mood, ARRAY[30])'), ('inet_array', 'inet[]', 'array_fill(''10.0.0.1''::inet, ARRAY[20])'),
('oid_array', 'oid[]', 'array_fill(1::oid, ARRAY[30])'), ('ltree', 'ltree', 'repeat(''l'', 90)::ltree'),
('composite', 'pair', 'ROW(1, repeat(''p'', 90))::pair'), ('label', 'text', 'repeat(''d'', 90)');
UPDATE cases.toast SET is_required = true
WHERE name = ANY ('{text,varchar,char,citext,json,jsonb,xml,text_array,int_array,uuid_array,hstore,tsvector,numrange}');
CREATE PROCEDURE cases.build_toast() LANGUAGE plpgsql AS $$
DECLARE c record; t text;
BEGIN
  FOR c IN SELECT * FROM cases.toast ORDER BY at LOOP
    FOREACH t IN ARRAY CASE WHEN c.is_required THEN ARRAY['toast', 'toast_required'] ELSE ARRAY['toast'] END LOOP
      EXECUTE format('ALTER TABLE types.%I ADD %I %s %s', t, c.name, c.type, CASE t WHEN 'toast' THEN '' ELSE 'NOT NULL' END);
      EXECUTE format('ALTER TABLE types.%I ALTER %I SET STORAGE EXTERNAL, SET (toast_tuple_target = 128)', t, c.name);
    END LOOP;
  END LOOP;
END $$;
CALL cases.build_toast();
ALTER TABLE types.toast_required ADD pad text NOT NULL DEFAULT repeat('.', 1100);
ALTER TABLE types.toast_required ALTER pad SET STORAGE PLAIN;

-- The same rows for the snapshot and for the stream.
CREATE PROCEDURE cases.fill() LANGUAGE plpgsql AS $$
DECLARE f record; n int; k int;
BEGIN
  FOR f IN SELECT family, string_agg(quote_ident(name), ', ' ORDER BY at) AS columns, max(array_length(samples, 1)) AS n,
      string_agg(format('(%L::text[])[$1]::%s', samples, type), ', ' ORDER BY at) AS plain,
      string_agg(format('coalesce((%L::text[])[$1], %L)::%s', samples, samples[array_length(samples, 1)], type), ', ' ORDER BY at) AS required,
      string_agg(format('(%L::text[])::%s[]', samples || NULL::text, type), ', ' ORDER BY at) AS whole,
      string_agg(format('(%L::text[])::%s[]', samples[1:1], type), ', ' ORDER BY at) AS first
    FROM cases.type GROUP BY family ORDER BY min(at)
  LOOP
    EXECUTE format('INSERT INTO types.%I (id) VALUES (0)', f.family || '_plain');
    FOR k IN 1..f.n LOOP
      EXECUTE format('INSERT INTO types.%I SELECT $1, %s', f.family || '_plain', f.plain) USING k;
    END LOOP;
    CONTINUE WHEN f.family = ANY (cases.fatal());
    EXECUTE format('INSERT INTO types.%I (id) VALUES (0)', f.family || '_default');
    EXECUTE format('INSERT INTO types.%I SELECT $1, %s', f.family || '_required', f.required) USING 1;
    EXECUTE format('INSERT INTO types.%I (id) VALUES (0)', f.family || '_array');
    EXECUTE format('INSERT INTO types.%I SELECT 1, %s', f.family || '_array', regexp_replace(f.columns, '[^,]+', '''{}''', 'g'));
    EXECUTE format('INSERT INTO types.%I SELECT 2, %s', f.family || '_array', f.whole);
    EXECUTE format('INSERT INTO types.%I SELECT 3, %s', f.family || '_array', f.first);
    FOR k IN 1..f.n LOOP
      EXECUTE format('INSERT INTO types.%I SELECT %s, $1', f.family || '_key', f.required) USING k;
    END LOOP;
    EXECUTE format('INSERT INTO types.%I SELECT $1, %s', f.family || '_default', f.required) USING 1;
  END LOOP;
  INSERT INTO types.odd_default (id, big, small, made, at, today) VALUES (1, 2, 3, '00000000-0000-4000-8000-00000000000b', '2020-01-01 00:00:00+00', '2020-01-02');
  INSERT INTO types.odd_default VALUES (2, 2, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'w', 'e');
  INSERT INTO types.nested VALUES (1, '{{1,NULL},{3,4}}', '{{a,"b \"c\""},{NULL,""}}'), (2, '{{{1},{2}}}', '{{{x}}}');
  INSERT INTO types.bounds VALUES (1, '[0:2]={1,NULL,3}', '[-1:0]={a,"NULL"}'), (2, '{}', '{"a,b","c\\d","{e}",""," f "}');
  EXECUTE (SELECT format('INSERT INTO types.toast SELECT 1, 0, %s', string_agg(value, ', ' ORDER BY at)) FROM cases.toast);
  EXECUTE (SELECT format('INSERT INTO types.toast_required SELECT 1, 0, %s', string_agg(value, ', ' ORDER BY at)) FROM cases.toast WHERE is_required);
  INSERT INTO types.toast (id, n) VALUES (2, 0);
END $$;
CALL cases.fill();

-- stream
DO $$
DECLARE f record;
BEGIN
  FOR f IN SELECT string_agg(oid::regclass::text, ', ' ORDER BY relname) AS tables FROM pg_class WHERE relnamespace = 'types'::regnamespace AND relkind = 'r' LOOP
    EXECUTE 'TRUNCATE ' || f.tables;
  END LOOP;
END $$;
CALL cases.fill();
UPDATE types.toast SET n = 1;
UPDATE types.toast_required SET n = 1;
-- What an old row of identity columns has of the others.
DO $$
DECLARE f record; c record;
BEGIN
  FOR f IN SELECT family FROM cases.type GROUP BY family ORDER BY min(at) LOOP
    EXECUTE format('DELETE FROM types.%I WHERE id = 1', f.family || '_plain');
    CONTINUE WHEN f.family = ANY (cases.fatal() || cases.uninventable());
    EXECUTE format('DELETE FROM types.%I WHERE id = 1', f.family || '_default');
    EXECUTE format('DELETE FROM types.%I WHERE id = 1', f.family || '_required');
    EXECUTE format('DELETE FROM types.%I WHERE id = 2', f.family || '_array');
    EXECUTE format('UPDATE types.%I SET x = 0 WHERE x = 1', f.family || '_key');
    EXECUTE format('DELETE FROM types.%I WHERE x = 0', f.family || '_key');
  END LOOP;
END $$;
DELETE FROM types.odd_default;
