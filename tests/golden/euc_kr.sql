-- A database whose encoding is not UTF-8: names and values come in UTF-8, but the content of a message as it was written.
-- tables: 상점.주문_발신함
-- headers: 상태 메모
-- encoding: EUC_KR
-- options: 'messages', 'true'

CREATE SCHEMA 상점;
CREATE TYPE 상점.상태 AS ENUM ('배송됨', '취소');
CREATE TABLE 상점.주문_발신함 (
    id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload json, 상태 상점.상태, 메모 varchar(4)
);
INSERT INTO 상점.주문_발신함 VALUES (1, 'order', '고객-7', '주문', '{"상품" : "김치"}', '배송됨', '한국어♥');
SELECT pg_logical_emit_message(true, '접두사', '내용');
UPDATE 상점.주문_발신함 SET 상태 = '취소';
