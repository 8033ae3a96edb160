-- Every shape of a change, for each replica identity, as real Debezium and relay are shown it. Run once as superuser; the part after
-- the line `-- stream` is run when the snapshot has been read. Each paragraph is sent as one, and is one transaction.
CREATE SCHEMA changes; SET search_path = changes;
CREATE TABLE by_default (id serial PRIMARY KEY, a int, b text);
CREATE TABLE by_full (id int PRIMARY KEY, a int, b text); ALTER TABLE by_full REPLICA IDENTITY FULL;
CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL, b text); CREATE UNIQUE INDEX by_index_code ON by_index (code);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code;
CREATE TABLE by_nothing (id int PRIMARY KEY, a int); ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
CREATE TABLE required (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL DEFAULT 'x', c boolean NOT NULL, d int DEFAULT 5);
CREATE TABLE keyless (a int, b text); ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE unkeyed (a int, b text);
CREATE TABLE by_unique (a int NOT NULL, b int NOT NULL, c text); ALTER TABLE by_unique REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX z_by_unique ON by_unique (a); CREATE UNIQUE INDEX a_by_unique ON by_unique (b);
CREATE TABLE by_partial (a int NOT NULL, b int); ALTER TABLE by_partial REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX by_partial_a ON by_partial (a) WHERE b > 0;
CREATE TABLE by_nullable (a int UNIQUE, b int); ALTER TABLE by_nullable REPLICA IDENTITY FULL;
CREATE TABLE composite (a int, b int, c int, d text, x int, PRIMARY KEY (b, d, c, a));
CREATE TABLE by_text (key text PRIMARY KEY, x int);
CREATE TABLE by_numeric (n numeric(6,2), free numeric, x int, PRIMARY KEY (n, free));
CREATE TABLE by_moment (day date, at timestamptz, ts timestamp, t time, f double precision, u uuid, y bytea, ok boolean, x int,
  PRIMARY KEY (day, at, ts, t, f, u, y, ok));
CREATE TABLE keyed_elsewhere (id int PRIMARY KEY, aa int, b text);
CREATE TABLE keyed_full (id int PRIMARY KEY, aa int, b text); ALTER TABLE keyed_full REPLICA IDENTITY FULL;
CREATE TABLE large_default (id int PRIMARY KEY, n int, body text, data bytea, tags text[]);
CREATE TABLE large_full (id int PRIMARY KEY, n int, body text, data bytea, tags text[]); ALTER TABLE large_full REPLICA IDENTITY FULL;
ALTER TABLE large_default ALTER body SET STORAGE EXTERNAL; ALTER TABLE large_full ALTER body SET STORAGE EXTERNAL;
CREATE TABLE parts (id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES IN ('low'); CREATE TABLE parts_high PARTITION OF parts FOR VALUES IN ('high');
CREATE TABLE "odd|name@x" (id int PRIMARY KEY, "q""x" int, "ü b" text, "sp ace" text, "C" int, "dot.ted" int, "new
line" int);
CREATE TABLE generated (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text);
CREATE TABLE masked (id int PRIMARY KEY, card text, note text, blank text, secret varchar(80), short varchar(8), hidden text);
CREATE TABLE shifting (id int PRIMARY KEY, a int);
CREATE TABLE cut_a (id int PRIMARY KEY); CREATE TABLE cut_b (id int PRIMARY KEY);
CREATE TABLE mute (id int PRIMARY KEY);
INSERT INTO by_default (a, b) VALUES (1, 'one'), (2, NULL), (NULL, 'three');
INSERT INTO by_full VALUES (1, 1, 'one'), (2, 2, 'two');
INSERT INTO parts VALUES (1, 'low'), (2, 'high');
INSERT INTO keyless VALUES (1, 'one');
INSERT INTO generated VALUES (1, 2, DEFAULT, 'b');
INSERT INTO masked VALUES (1, '1234', 'a long note', 'x', 'secret', 'short', 'hidden'), (2, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO "odd|name@x" VALUES (1, 2, 'three', 'four', 5, 6, 7);
SELECT pg_replication_origin_create('there');

-- stream
SET search_path = changes;

INSERT INTO by_default (a, b) VALUES (4, 'four');

UPDATE by_default SET a = 5 WHERE id = 1;

UPDATE by_default SET a = a WHERE id = 2;

UPDATE by_default SET id = 10, b = 'moved' WHERE id = 1;

DELETE FROM by_default WHERE id = 2;

INSERT INTO by_default VALUES (20, 1, 'a'), (21, 2, 'b'); UPDATE by_default SET id = id + 10 WHERE id >= 20; DELETE FROM by_default WHERE id >= 30;

UPDATE by_full SET a = NULL WHERE id = 1;

UPDATE by_full SET id = 3 WHERE id = 1;

DELETE FROM by_full WHERE id = 2;

INSERT INTO by_index VALUES (1, 'k1', 'b'), (2, 'k2', NULL);

UPDATE by_index SET b = 'c' WHERE id = 1;

UPDATE by_index SET code = 'k3' WHERE id = 1;

UPDATE by_index SET id = 5 WHERE id = 2;

DELETE FROM by_index WHERE code = 'k2';

INSERT INTO by_nothing VALUES (1, 1), (2, NULL);

INSERT INTO required VALUES (1, 1, 'b', true, NULL), (2, 2, 'c', false, 6);

UPDATE required SET a = 3 WHERE id = 1;

UPDATE required SET id = 4 WHERE id = 1;

DELETE FROM required WHERE id = 2;

INSERT INTO keyless VALUES (2, NULL); UPDATE keyless SET b = 'two' WHERE a = 2; DELETE FROM keyless WHERE a = 2;

INSERT INTO unkeyed VALUES (1, 'x');

INSERT INTO by_unique VALUES (1, 2, 'c'); UPDATE by_unique SET c = 'd'; UPDATE by_unique SET b = 3; UPDATE by_unique SET a = 9; DELETE FROM by_unique;

INSERT INTO by_partial VALUES (1, 2); UPDATE by_partial SET b = 3; UPDATE by_partial SET a = 4; DELETE FROM by_partial;

INSERT INTO by_nullable VALUES (NULL, 2); UPDATE by_nullable SET b = 3; UPDATE by_nullable SET a = 4; DELETE FROM by_nullable;

INSERT INTO composite VALUES (1, 2, 3, 'd', 4); UPDATE composite SET x = 5; UPDATE composite SET c = 33; DELETE FROM composite;

INSERT INTO by_text VALUES (E'q"\\/\n\t\x01', 1), (U&'\00fc\+01f600\2028', 2), ('', 3);

UPDATE by_text SET key = key || 'x'; DELETE FROM by_text WHERE x = 3;

INSERT INTO by_numeric VALUES (1.5, 10.50, 1), (2, 3, 2);

UPDATE by_numeric SET free = 10.5 WHERE x = 1;

UPDATE by_numeric SET n = 1.25, free = 11.10 WHERE x = 1; UPDATE by_numeric SET x = 3 WHERE x = 2; DELETE FROM by_numeric WHERE x = 3;

INSERT INTO by_moment VALUES ('2020-01-02', '2020-01-02 03:04:05.678+00', '2019-03-28 20:34:19.000001', '13:51:30.123456', -0.0001,
  '00000000-0000-4000-8000-00000000000a', '\x0102', true, 1);

UPDATE by_moment SET day = '2020-01-03', ok = false, f = 1e10;

INSERT INTO keyed_elsewhere VALUES (1, 10, 'b'), (2, NULL, 'c');

UPDATE keyed_elsewhere SET b = 'd' WHERE id = 1;

UPDATE keyed_elsewhere SET aa = 11 WHERE id = 1;

UPDATE keyed_elsewhere SET id = 3 WHERE id = 1;

DELETE FROM keyed_elsewhere WHERE id = 3;

INSERT INTO keyed_full VALUES (1, 10, 'b'), (2, NULL, 'c'); UPDATE keyed_full SET b = 'd'; UPDATE keyed_full SET aa = 11 WHERE id = 1;

UPDATE keyed_full SET id = 3 WHERE id = 1; DELETE FROM keyed_full;

INSERT INTO large_default VALUES (1, 1, repeat('body ', 500), '\x01', '{a}'), (2, 1, NULL, NULL, NULL);

UPDATE large_default SET n = 2;

UPDATE large_default SET body = 'short' WHERE id = 1; UPDATE large_default SET id = 3 WHERE id = 2; DELETE FROM large_default;

INSERT INTO large_full VALUES (1, 1, repeat('body ', 500), '\x01', '{a}'); UPDATE large_full SET n = 2; UPDATE large_full SET id = 2; DELETE FROM large_full;

INSERT INTO parts VALUES (3, 'low'), (4, 'high');

UPDATE parts SET id = 5 WHERE id = 3;

UPDATE parts SET kind = 'high' WHERE id = 5;

DELETE FROM parts WHERE id IN (1, 2);

TRUNCATE parts_low; TRUNCATE parts;

INSERT INTO "odd|name@x" VALUES (2, 3, NULL, 'x', 1, 2, 3); UPDATE "odd|name@x" SET id = 9 WHERE id = 1;

INSERT INTO generated VALUES (2, 3, DEFAULT, 'c'); UPDATE generated SET a = 4 WHERE id = 2; DELETE FROM generated WHERE id = 1;

INSERT INTO masked VALUES (3, 'ü', 'abc', '', '', 'y', 'z'), (4, NULL, NULL, NULL, NULL, NULL, NULL); UPDATE masked SET card = '9' WHERE id = 1; DELETE FROM masked WHERE id = 3;

INSERT INTO shifting VALUES (1, 1); ALTER TABLE shifting ADD b text DEFAULT 'n'; INSERT INTO shifting VALUES (2, 2, 'x'); ALTER TABLE shifting DROP a; INSERT INTO shifting VALUES (3, 'y'); ALTER TABLE shifting RENAME b TO c; UPDATE shifting SET c = 'z';

INSERT INTO cut_a VALUES (1), (2); INSERT INTO cut_b VALUES (1);

TRUNCATE cut_b, cut_a RESTART IDENTITY CASCADE;

BEGIN; INSERT INTO cut_a VALUES (7); SAVEPOINT s; INSERT INTO cut_b VALUES (7); ROLLBACK TO s; INSERT INTO cut_b VALUES (8); TRUNCATE cut_a; INSERT INTO cut_a VALUES (9); COMMIT;

BEGIN; SELECT pg_replication_origin_session_setup('there'); SELECT pg_replication_origin_xact_setup('0/1234', '2020-01-01 00:00:00+00'); INSERT INTO cut_a VALUES (100); COMMIT;

INSERT INTO cut_a VALUES (101);

SELECT pg_replication_origin_session_reset();

INSERT INTO cut_a VALUES (102);

SELECT pg_logical_emit_message(true, 'prefix', 'transactional ü');

SELECT pg_logical_emit_message(false, 'prefix', 'not transactional');

BEGIN; INSERT INTO cut_a VALUES (200); SELECT pg_logical_emit_message(true, 'other', '\xff00'::bytea); SELECT pg_logical_emit_message(false, 'other', ''); INSERT INTO cut_b VALUES (200); UPDATE cut_b SET id = 201 WHERE id = 200; DELETE FROM cut_b WHERE id = 201; SELECT pg_logical_emit_message(true, '', 'x'); COMMIT;

BEGIN; INSERT INTO cut_a VALUES (300); ROLLBACK;

INSERT INTO mute VALUES (1); DELETE FROM mute;
