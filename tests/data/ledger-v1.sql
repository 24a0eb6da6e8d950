-- A ledger as version 0.1.0 of this program wrote it (schema 1), as SQL; for tests/ledger/test_migration.py.
PRAGMA application_id = 2016686130;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE brake (what TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "brake" VALUES('freeze','for the record');
CREATE TABLE entry (
    hold_id TEXT NOT NULL REFERENCES hold (id),
    kind TEXT NOT NULL CHECK (kind IN ('refund', 'overcharge')),
    charge_id TEXT NOT NULL,
    at REAL NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (hold_id, kind, charge_id)
) WITHOUT ROWID;
INSERT INTO "entry" VALUES('h00000000000000000000000000000004','refund','r1',1.76726880725000286102e+09,1000000);
INSERT INTO "entry" VALUES('h00000000000000000000000000000009','overcharge','o1',1.76726880850001239779e+09,10000);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    wallet TEXT NOT NULL COLLATE NOCASE,
    subject TEXT NOT NULL,
    "from" TEXT NOT NULL,
    "to" TEXT NOT NULL,
    amount INTEGER NOT NULL,
    why TEXT NOT NULL,
    data TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO "event" VALUES(1,1767268800.0,'','limit','','set',20000000,'','{"key":["jobs","all","day"]}','','19d16c03543f9c8abf0a49b473910c24d4fcd6e910465f6cc421e07a14b200ac');
INSERT INTO "event" VALUES(2,1.76726880000000095369e+09,'','limit','','set',9000000,'','{"key":["jobs","model:ace-step-15","day"]}','19d16c03543f9c8abf0a49b473910c24d4fcd6e910465f6cc421e07a14b200ac','f1087e19b4068af667f0b7d8a80bb412e8887c54ffad2f391ceebea53d7c280c');
INSERT INTO "event" VALUES(3,1.76726880000000190736e+09,'','payee:https://seller.example','','pinned',0,'the owner, on a terminal','{"network":"eip155:8453","address":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"}','f1087e19b4068af667f0b7d8a80bb412e8887c54ffad2f391ceebea53d7c280c','4cf957a6c3588c4b7f51ebfa70eb9997f6f80f0409a9aad25fa95d0528702b90');
INSERT INTO "event" VALUES(4,1.76726880000000286102e+09,'','seller:https://seller.example','','direct',0,'','{}','4cf957a6c3588c4b7f51ebfa70eb9997f6f80f0409a9aad25fa95d0528702b90','36b173c1b0ee65c2bdf96a0c59c932b827cfd1553c4c725035479453684b53d7');
INSERT INTO "event" VALUES(5,1.76726880000000381469e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:planned','','planned',0,'','{"set":{"id":"planned","digest":"digest of planned","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","environment":"live","label":"","provider":"direct","api_url":"https://seller.example","origin":"https://seller.example","model":"elevenlabs-music","request":"b6ce00e854e6ec2c14179a11a82df77da3681e8a3efebeea73d9dee19ebc25b3","options":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","state":"planned","parked_reason":null,"resume_state":null,"queue_id":"","price":null,"missing":null,"deadline":1767355200.0,"attempts":1,"last_error":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","content_type":"","file_sha256":"","file_bytes":0,"path":"","refunded":"","created_at":1767268800.0000038,"queued_at":null}}','','7e118445d5d6a90c79a5d3df03558e37d965ca2e084a2383416d392a9f0c5aac');
INSERT INTO "event" VALUES(6,1.76726880000000476835e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:queued','','planned',0,'','{"set":{"id":"queued","digest":"digest of queued","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","environment":"live","label":"","provider":"direct","api_url":"https://seller.example","origin":"https://seller.example","model":"elevenlabs-music","request":"b6ce00e854e6ec2c14179a11a82df77da3681e8a3efebeea73d9dee19ebc25b3","options":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","state":"planned","parked_reason":null,"resume_state":null,"queue_id":"","price":null,"missing":null,"deadline":1767355200.0,"attempts":1,"last_error":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","content_type":"","file_sha256":"","file_bytes":0,"path":"","refunded":"","created_at":1767268800.0000048,"queued_at":null}}','7e118445d5d6a90c79a5d3df03558e37d965ca2e084a2383416d392a9f0c5aac','7346f97f544b17e45389f3361f652239937e35eed5b45242501010190200a8f2');
INSERT INTO "event" VALUES(7,1.76726880000000572202e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:saved','','planned',0,'','{"set":{"id":"saved","digest":"digest of saved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","environment":"live","label":"","provider":"direct","api_url":"https://seller.example","origin":"https://seller.example","model":"elevenlabs-music","request":"b6ce00e854e6ec2c14179a11a82df77da3681e8a3efebeea73d9dee19ebc25b3","options":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","state":"planned","parked_reason":null,"resume_state":null,"queue_id":"","price":null,"missing":null,"deadline":1767355200.0,"attempts":1,"last_error":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","content_type":"","file_sha256":"","file_bytes":0,"path":"","refunded":"","created_at":1767268800.0000057,"queued_at":null}}','7346f97f544b17e45389f3361f652239937e35eed5b45242501010190200a8f2','a622a51183ec6a0a39cd6ea623b564b6ee0f4bc334813ae793006e25de2269c0');
INSERT INTO "event" VALUES(8,1.76726880000000667568e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:failed','','planned',0,'','{"set":{"id":"failed","digest":"digest of failed","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","environment":"live","label":"","provider":"direct","api_url":"https://seller.example","origin":"https://seller.example","model":"elevenlabs-music","request":"b6ce00e854e6ec2c14179a11a82df77da3681e8a3efebeea73d9dee19ebc25b3","options":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","state":"planned","parked_reason":null,"resume_state":null,"queue_id":"","price":null,"missing":null,"deadline":1767355200.0,"attempts":1,"last_error":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","content_type":"","file_sha256":"","file_bytes":0,"path":"","refunded":"","created_at":1767268800.0000067,"queued_at":null}}','a622a51183ec6a0a39cd6ea623b564b6ee0f4bc334813ae793006e25de2269c0','227a13c700246a8a559f18b406d4b5d5282fdddef0589e3c26483ae687ba7aa5');
INSERT INTO "event" VALUES(9,1.76726880000000762934e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:unknown','','planned',0,'','{"set":{"id":"unknown","digest":"digest of unknown","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","environment":"live","label":"","provider":"direct","api_url":"https://seller.example","origin":"https://seller.example","model":"elevenlabs-music","request":"b6ce00e854e6ec2c14179a11a82df77da3681e8a3efebeea73d9dee19ebc25b3","options":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","state":"planned","parked_reason":null,"resume_state":null,"queue_id":"","price":null,"missing":null,"deadline":1767355200.0,"attempts":1,"last_error":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","content_type":"","file_sha256":"","file_bytes":0,"path":"","refunded":"","created_at":1767268800.0000076,"queued_at":null}}','227a13c700246a8a559f18b406d4b5d5282fdddef0589e3c26483ae687ba7aa5','4c174c74a61f0479a4997d340250e1b8f7defa693235ee3d9da3fd81d4cbff30');
INSERT INTO "event" VALUES(10,1.76726880000000858301e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:parked','','planned',0,'','{"set":{"id":"parked","digest":"digest of parked","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","environment":"live","label":"","provider":"direct","api_url":"https://seller.example","origin":"https://seller.example","model":"elevenlabs-music","request":"b6ce00e854e6ec2c14179a11a82df77da3681e8a3efebeea73d9dee19ebc25b3","options":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","state":"planned","parked_reason":null,"resume_state":null,"queue_id":"","price":null,"missing":null,"deadline":1767355200.0,"attempts":1,"last_error":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","content_type":"","file_sha256":"","file_bytes":0,"path":"","refunded":"","created_at":1767268800.0000086,"queued_at":null}}','4c174c74a61f0479a4997d340250e1b8f7defa693235ee3d9da3fd81d4cbff30','c81066772013a5fe1d8b2d22d17ef2abe3991142dd6c4421f9a00f2dbefc09dd');
INSERT INTO "event" VALUES(11,1.76726880000000953667e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000002','','reserved',1000000,'','{"set":{"id":"h00000000000000000000000000000002","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":1000000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000001","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-1","envelope":"","job_id":"queued","model":"ace-step-15","label":"","sends":0,"created_at":1767268800.0000095,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"],["jobs","model:ace-step-15","day",9000000,"ledger"]]}','c81066772013a5fe1d8b2d22d17ef2abe3991142dd6c4421f9a00f2dbefc09dd','e57602a409f8e21df53c5ff7aae0cee1be06c7b129c25bf71ce2a5ae034ba5e6');
INSERT INTO "event" VALUES(12,1.76726880000000953667e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:queued','planned','reserved',0,'','{"set":{"state":"reserved"}}','e57602a409f8e21df53c5ff7aae0cee1be06c7b129c25bf71ce2a5ae034ba5e6','7a9a130a94480871b011df8c14d0fd67baee60805c40d28f546f3f712cb84f48');
INSERT INTO "event" VALUES(13,1.76726880000001049034e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000002','reserved','signed',1000000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268800.0000105}}','7a9a130a94480871b011df8c14d0fd67baee60805c40d28f546f3f712cb84f48','17b8a2fa63acf81d3d40369a0a228f31614e74f21da4d587157ab4298b6b5aac');
INSERT INTO "event" VALUES(14,1767268801.25,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000002','signed','settled',1000000,'the seller named a queue_id','{"set":{"state":"settled","delivered_at":1767268801.25,"resolved_at":1767268801.25,"transaction":"0xe5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5","evidence":"the seller named a queue_id","counted_at":1767268801.25}}','17b8a2fa63acf81d3d40369a0a228f31614e74f21da4d587157ab4298b6b5aac','a4cb0c938ab9d1f539fbc62ba45705714ac7ca6cfa256d1b3ac6dfaefc44f8ed');
INSERT INTO "event" VALUES(15,1767268801.25,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:queued','reserved','queued',0,'the seller named a queue_id','{"set":{"state":"queued","queue_id":"q-queued","queued_at":1767268801.25}}','a4cb0c938ab9d1f539fbc62ba45705714ac7ca6cfa256d1b3ac6dfaefc44f8ed','5208c20d995818e189332a12bf1bdc20b0b2f323199ea242c487188b0845c49e');
INSERT INTO "event" VALUES(16,1.76726880125000095373e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000003','','reserved',1000000,'','{"set":{"id":"h00000000000000000000000000000003","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":1000000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000002","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-2","envelope":"","job_id":"saved","model":"ace-step-15","label":"","sends":0,"created_at":1767268801.250001,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"],["jobs","model:ace-step-15","day",9000000,"ledger"]]}','5208c20d995818e189332a12bf1bdc20b0b2f323199ea242c487188b0845c49e','4b9ed725c5f5de1901e0edaeaa87ae930e89bbdda981442ffc8fd0be73690c2a');
INSERT INTO "event" VALUES(17,1.76726880125000095373e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:saved','planned','reserved',0,'','{"set":{"state":"reserved"}}','4b9ed725c5f5de1901e0edaeaa87ae930e89bbdda981442ffc8fd0be73690c2a','609f67d2f92e8d2981dd33588fcc06c9f6feb563570895a607e8d1883d253119');
INSERT INTO "event" VALUES(18,1.76726880125000190739e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000003','reserved','signed',1000000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268801.250002}}','609f67d2f92e8d2981dd33588fcc06c9f6feb563570895a607e8d1883d253119','6220ff578c1b0ac649061be41133d7ee91634889e78cf5fe93a0925cbebd51f2');
INSERT INTO "event" VALUES(19,1767268802.5,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000003','signed','settled',1000000,'the seller named a queue_id','{"set":{"state":"settled","delivered_at":1767268802.5,"resolved_at":1767268802.5,"transaction":"0xe5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5","evidence":"the seller named a queue_id","counted_at":1767268802.5}}','6220ff578c1b0ac649061be41133d7ee91634889e78cf5fe93a0925cbebd51f2','dd762794b99eeca9d7e3d5b7bb597c7f78c2a3e7c93286067a71a242fb9ecc35');
INSERT INTO "event" VALUES(20,1767268802.5,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:saved','reserved','queued',0,'the seller named a queue_id','{"set":{"state":"queued","queue_id":"q-saved","queued_at":1767268802.5}}','dd762794b99eeca9d7e3d5b7bb597c7f78c2a3e7c93286067a71a242fb9ecc35','3b228777bace357052dff5f2638d724c132e28a52412d478173ff99677885322');
INSERT INTO "event" VALUES(21,1.76726880250000095368e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000004','','reserved',1000000,'','{"set":{"id":"h00000000000000000000000000000004","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":1000000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000003","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-3","envelope":"","job_id":"failed","model":"ace-step-15","label":"","sends":0,"created_at":1767268802.500001,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"],["jobs","model:ace-step-15","day",9000000,"ledger"]]}','3b228777bace357052dff5f2638d724c132e28a52412d478173ff99677885322','9db1d5f445d9e7e7bfab7a0cef650a95235b635062746673354d14e75a192208');
INSERT INTO "event" VALUES(22,1.76726880250000095368e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:failed','planned','reserved',0,'','{"set":{"state":"reserved"}}','9db1d5f445d9e7e7bfab7a0cef650a95235b635062746673354d14e75a192208','116c2f8ed760d1d0eaa4d73bff6ac00d5a0901c33b06b2d0f1257bbf6e8b98aa');
INSERT INTO "event" VALUES(23,1.76726880250000190734e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000004','reserved','signed',1000000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268802.500002}}','116c2f8ed760d1d0eaa4d73bff6ac00d5a0901c33b06b2d0f1257bbf6e8b98aa','72677e6b53595a2f59e08a4d34f239126c1cc398bec0aa4fb890ca8eb131ba29');
INSERT INTO "event" VALUES(24,1767268803.75,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000004','signed','settled',1000000,'the seller named a queue_id','{"set":{"state":"settled","delivered_at":1767268803.75,"resolved_at":1767268803.75,"transaction":"0xe5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5","evidence":"the seller named a queue_id","counted_at":1767268803.75}}','72677e6b53595a2f59e08a4d34f239126c1cc398bec0aa4fb890ca8eb131ba29','e4eea1bd0bb9039480920767130d632ffac83b2600bec1549a5557c51dcf8fcf');
INSERT INTO "event" VALUES(25,1767268803.75,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:failed','reserved','queued',0,'the seller named a queue_id','{"set":{"state":"queued","queue_id":"q-failed","queued_at":1767268803.75}}','e4eea1bd0bb9039480920767130d632ffac83b2600bec1549a5557c51dcf8fcf','5509b8d84ea82f5ae8971db814426d600a36f6eb6d9d5d93d18d54127e82ac15');
INSERT INTO "event" VALUES(26,1767268807.25,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:saved','queued','ready',0,'','{"set":{"state":"ready"}}','5509b8d84ea82f5ae8971db814426d600a36f6eb6d9d5d93d18d54127e82ac15','acc66d998cc573973dc67b03276feeabd10dbd608d2a1cb952330e0b831f7fcb');
INSERT INTO "event" VALUES(27,1.76726880725000095369e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:saved','ready','saved',0,'','{"set":{"state":"saved","content_type":"audio/mpeg","file_sha256":"abababababababababababababababababababababababababababababababab","file_bytes":7,"path":"/tracks/saved.mp3"}}','acc66d998cc573973dc67b03276feeabd10dbd608d2a1cb952330e0b831f7fcb','d5436da322c2cd19495742ebb5391f01e9fe8527d4a2f7b57d053600a4448cc4');
INSERT INTO "event" VALUES(28,1.76726880725000190736e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:failed','queued','failed',0,'','{"set":{"state":"failed","last_error":"08e8d74a3e55c977202c5b03d62d40875e9269d3810116336252b90babe4caf9","refunded":"yes"}}','d5436da322c2cd19495742ebb5391f01e9fe8527d4a2f7b57d053600a4448cc4','4717774b8156a742c6061e8b2ed69b2e9e8c447a3cdb86558319c90fdbe4bac9');
INSERT INTO "event" VALUES(29,1.76726880725000286102e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000004','settled','settled',1000000,'shown by the seller','{"set":{"refunded":1000000},"entry":["refund","r1"]}','4717774b8156a742c6061e8b2ed69b2e9e8c447a3cdb86558319c90fdbe4bac9','cb77941006d44dc7b23a80f2d49862ece401a8cd60df54f87eef3dae5fc252ee');
INSERT INTO "event" VALUES(30,1.76726880725000381469e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000005','','reserved',1000000,'','{"set":{"id":"h00000000000000000000000000000005","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":1000000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000004","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-4","envelope":"","job_id":"unknown","model":"ace-step-15","label":"","sends":0,"created_at":1767268807.2500038,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"],["jobs","model:ace-step-15","day",9000000,"ledger"]]}','cb77941006d44dc7b23a80f2d49862ece401a8cd60df54f87eef3dae5fc252ee','694989be4a0cf11114562b37c4ee10ed9edf8dbc614b588c8242b32bb49056d3');
INSERT INTO "event" VALUES(31,1.76726880725000381469e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:unknown','planned','reserved',0,'','{"set":{"state":"reserved"}}','694989be4a0cf11114562b37c4ee10ed9edf8dbc614b588c8242b32bb49056d3','b7730c547bd8f75b5fc96042c28c21a551bd8aed38a203eb2eec7f6d06d63915');
INSERT INTO "event" VALUES(32,1.76726880725000476835e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000005','reserved','signed',1000000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268807.2500048}}','b7730c547bd8f75b5fc96042c28c21a551bd8aed38a203eb2eec7f6d06d63915','13f1618d16cf61c621d9e9937dd7746a05153c12f1086c5810a58ac667a86bbc');
INSERT INTO "event" VALUES(33,1767268808.5,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:unknown','reserved','parked',0,'','{"set":{"state":"parked","parked_reason":"unknown","resume_state":"reserved"}}','13f1618d16cf61c621d9e9937dd7746a05153c12f1086c5810a58ac667a86bbc','abc0856b496fc33a7c9a03694484551badecfa8a08164dd9631c670703bd4e81');
INSERT INTO "event" VALUES(34,1.76726880850000095369e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','job:parked','planned','parked',0,'','{"set":{"state":"parked","parked_reason":"owner","resume_state":"planned","last_error":"904f4e8d7e0b29e23ad2ff8745b0e72df7dc024c69d153ef469e2b2b5655301f"}}','abc0856b496fc33a7c9a03694484551badecfa8a08164dd9631c670703bd4e81','20d74ae2f169848edb9dd168c7f909123c5e76629852f9debfac7ec1d4b6e720');
INSERT INTO "event" VALUES(35,1.76726880850000190735e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000006','','reserved',5000000,'','{"set":{"id":"h00000000000000000000000000000006","kind":"topup","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":5000000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000005","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-5","envelope":"","job_id":null,"model":"","label":"","sends":0,"created_at":1767268808.500002,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[]}','20d74ae2f169848edb9dd168c7f909123c5e76629852f9debfac7ec1d4b6e720','72fec3a2d91500613c45ef7051eef3f676728e8912702bec8f83c3e45c3fe32f');
INSERT INTO "event" VALUES(36,1.76726880850000286102e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000006','reserved','signed',5000000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268808.5000029}}','72fec3a2d91500613c45ef7051eef3f676728e8912702bec8f83c3e45c3fe32f','5bc4c3f2ebaa71f19cd7dc743b37f6af889471b6e666fa9d61e3257fb0b94cfd');
INSERT INTO "event" VALUES(37,1.76726880850000381468e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000006','signed','settled',5000000,'credited','{"set":{"state":"settled","delivered_at":1767268808.5000038,"resolved_at":1767268808.5000038,"transaction":"0xf6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6","evidence":"credited","counted_at":1767268808.5000038}}','5bc4c3f2ebaa71f19cd7dc743b37f6af889471b6e666fa9d61e3257fb0b94cfd','16a7b1e73b3ef2e10095f80e8b03b4e52796a16a7b78c69d5cd3905c4fe77919');
INSERT INTO "event" VALUES(38,1.76726880850000476834e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000007','','reserved',3000000,'','{"set":{"id":"h00000000000000000000000000000007","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":3000000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000006","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-6","envelope":"","job_id":null,"model":"","label":"","sends":0,"created_at":1767268808.5000048,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"]]}','16a7b1e73b3ef2e10095f80e8b03b4e52796a16a7b78c69d5cd3905c4fe77919','42c96186ec39a0da2678331e90191d2a4a7dc63299366c5f3c9595d168ceb472');
INSERT INTO "event" VALUES(39,1.76726880850000572201e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000007','reserved','void',3000000,'refused','{"set":{"state":"void","resolved_at":1767268808.5000057,"evidence":"refused"}}','42c96186ec39a0da2678331e90191d2a4a7dc63299366c5f3c9595d168ceb472','107d358a8d60956f2ee08498517c779cf4aaf071af3e864d62b683e2140bf6e7');
INSERT INTO "event" VALUES(40,1.76726880850000667567e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000008','','reserved',700000,'','{"set":{"id":"h00000000000000000000000000000008","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":700000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000007","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-7","envelope":"","job_id":null,"model":"","label":"","sends":0,"created_at":1767268808.5000067,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"]]}','107d358a8d60956f2ee08498517c779cf4aaf071af3e864d62b683e2140bf6e7','42d5c747f435e1b6da8ee00c672d76da4e39f3dd7e71f83e0b3177f98cd17d10');
INSERT INTO "event" VALUES(41,1.76726880850000762934e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000008','reserved','signed',700000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268808.5000076}}','42d5c747f435e1b6da8ee00c672d76da4e39f3dd7e71f83e0b3177f98cd17d10','e9e4fa21f4d9a22594ab98ea0b1d1542d0e46f16ae73abe06163a62a9c5aac6f');
INSERT INTO "event" VALUES(42,1.76726880850000858313e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000008','signed','presumed',700000,'no chain to ask','{"set":{"state":"presumed","resolved_at":1767268808.5000086,"evidence":"no chain to ask","counted_at":1767268808.5000086}}','e9e4fa21f4d9a22594ab98ea0b1d1542d0e46f16ae73abe06163a62a9c5aac6f','7e6a5e13945ce95158c5232cf21b9fe92d574a4cffd516977004514acdc36f89');
INSERT INTO "event" VALUES(43,1.7672688085000095368e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000009','','reserved',700000,'','{"set":{"id":"h00000000000000000000000000000009","kind":"direct","state":"reserved","wallet":"0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1","network":"eip155:8453","asset":"0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","environment":"live","origin":"https://seller.example","pay_to":"0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2","amount":700000,"nonce":"0x0000000000000000000000000000000000000000000000000000000000000008","valid_after":0,"valid_before":1767269100,"method":"POST","resource":"https://seller.example/audio","body_digest":"body","purchase":"purchase-8","envelope":"","job_id":null,"model":"","label":"","sends":0,"created_at":1767268808.5000095,"sent_at":null,"delivered_at":null,"resolved_at":null,"transaction":"","charge_id":"","evidence":"","refunded":0,"overcharged":0,"late_charge":false,"counted_at":null},"floor":0,"limits":[["jobs","all","day",20000000,"ledger"]]}','7e6a5e13945ce95158c5232cf21b9fe92d574a4cffd516977004514acdc36f89','a08f13b55d4a3fa4c984d86147b8783ca03b1ed89f4f38f63048e5acecd7bd39');
INSERT INTO "event" VALUES(44,1.76726880850001049046e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000009','reserved','signed',700000,'','{"set":{"state":"signed","sends":1,"sent_at":1767268808.5000105}}','a08f13b55d4a3fa4c984d86147b8783ca03b1ed89f4f38f63048e5acecd7bd39','a7819a9c5d1323f188c1ec8cab4bf4af485d23725390db2873f4baf3a14c21dd');
INSERT INTO "event" VALUES(45,1.76726880850001144412e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000009','signed','settled',700000,'receipt','{"set":{"state":"settled","delivered_at":1767268808.5000114,"resolved_at":1767268808.5000114,"evidence":"receipt","counted_at":1767268808.5000114}}','a7819a9c5d1323f188c1ec8cab4bf4af485d23725390db2873f4baf3a14c21dd','02d96b4af264732f3185a7db5d46169e637678bd729d621574f8a09016c0da14');
INSERT INTO "event" VALUES(46,1.76726880850001239779e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','hold:h00000000000000000000000000000009','settled','settled',10000,'one cent more','{"set":{"overcharged":10000},"entry":["overcharge","o1"]}','02d96b4af264732f3185a7db5d46169e637678bd729d621574f8a09016c0da14','c66c800f4f83db1eb49dd37f4c5e57eec810b7d8d4a6d9e155a3e643f8e18ea0');
INSERT INTO "event" VALUES(47,1.76726880850001239779e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','suspension:https://seller.example','','suspended',0,'one cent more','{"what":"seller"}','c66c800f4f83db1eb49dd37f4c5e57eec810b7d8d4a6d9e155a3e643f8e18ea0','fde3be78f0af82802ec5032b6a57855e8ac5e2be7a2df38f7787b589ebf2bdfa');
INSERT INTO "event" VALUES(48,1.76726880850001335145e+09,'0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','suspension:https://seller.example','suspended','',0,'the owner, on a terminal','{"what":"seller"}','fde3be78f0af82802ec5032b6a57855e8ac5e2be7a2df38f7787b589ebf2bdfa','bbdbc7d66644e7b5f6c1d497500ce24d6aea200921367e147eaad00f4022d294');
INSERT INTO "event" VALUES(49,1.76726880850001430512e+09,'','freeze','','frozen',0,'for the record','{}','36b173c1b0ee65c2bdf96a0c59c932b827cfd1553c4c725035479453684b53d7','936caacf0e2c000d52f8b2767141bc683e968d29967a43fa30533e87bab6fef3');
CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "fact" VALUES('durations x','4.0',1.76726880850001525878e+09);
CREATE TABLE hold (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('direct', 'topup', 'credit', 'account')),
    state TEXT NOT NULL CHECK (state IN ('reserved', 'signed', 'settled', 'void', 'presumed')),
    wallet TEXT NOT NULL COLLATE NOCASE,
    network TEXT NOT NULL,
    asset TEXT NOT NULL COLLATE NOCASE,
    environment TEXT NOT NULL,
    origin TEXT NOT NULL,
    pay_to TEXT NOT NULL COLLATE NOCASE,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    nonce TEXT NOT NULL COLLATE NOCASE,
    valid_after INTEGER NOT NULL,
    valid_before INTEGER NOT NULL,
    method TEXT NOT NULL,
    resource TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    purchase TEXT NOT NULL,
    envelope TEXT NOT NULL,
    job_id TEXT,
    model TEXT NOT NULL,
    label TEXT NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    sent_at REAL,
    delivered_at REAL,
    resolved_at REAL,
    "transaction" TEXT NOT NULL DEFAULT '',
    charge_id TEXT NOT NULL DEFAULT '',
    evidence TEXT NOT NULL DEFAULT '',
    refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    overcharged INTEGER NOT NULL DEFAULT 0 CHECK (overcharged >= 0),
    late_charge INTEGER NOT NULL DEFAULT 0,
    counted_at REAL,
    lease_until REAL
);
INSERT INTO "hold" VALUES('h00000000000000000000000000000002','direct','settled','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',1000000,'0x0000000000000000000000000000000000000000000000000000000000000001',0,1767269100,'POST','https://seller.example/audio','body','purchase-1','','queued','ace-step-15','',1,1.76726880000000953667e+09,1.76726880000001049034e+09,1767268801.25,1767268801.25,'0xe5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5','','the seller named a queue_id',0,0,0,1767268801.25,1.76726892000000953674e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000003','direct','settled','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',1000000,'0x0000000000000000000000000000000000000000000000000000000000000002',0,1767269100,'POST','https://seller.example/audio','body','purchase-2','','saved','ace-step-15','',1,1.76726880125000095373e+09,1.76726880125000190739e+09,1767268802.5,1767268802.5,'0xe5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5','','the seller named a queue_id',0,0,0,1767268802.5,1.76726892125000095363e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000004','direct','settled','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',1000000,'0x0000000000000000000000000000000000000000000000000000000000000003',0,1767269100,'POST','https://seller.example/audio','body','purchase-3','','failed','ace-step-15','',1,1.76726880250000095368e+09,1.76726880250000190734e+09,1767268803.75,1767268803.75,'0xe5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5','','the seller named a queue_id',1000000,0,0,1767268803.75,1.76726892250000095366e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000005','direct','signed','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',1000000,'0x0000000000000000000000000000000000000000000000000000000000000004',0,1767269100,'POST','https://seller.example/audio','body','purchase-4','','unknown','ace-step-15','',1,1.76726880725000381469e+09,1.76726880725000476835e+09,NULL,NULL,'','','',0,0,0,NULL,1.76726892725000381476e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000006','topup','settled','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',5000000,'0x0000000000000000000000000000000000000000000000000000000000000005',0,1767269100,'POST','https://seller.example/audio','body','purchase-5','',NULL,'','',1,1.76726880850000190735e+09,1.76726880850000286102e+09,1.76726880850000381468e+09,1.76726880850000381468e+09,'0xf6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6','','credited',0,0,0,1.76726880850000381468e+09,1.76726892850000190729e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000007','direct','void','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',3000000,'0x0000000000000000000000000000000000000000000000000000000000000006',0,1767269100,'POST','https://seller.example/audio','body','purchase-6','',NULL,'','',0,1.76726880850000476834e+09,NULL,NULL,1.76726880850000572201e+09,'','','refused',0,0,0,NULL,1.76726892850000476837e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000008','direct','presumed','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',700000,'0x0000000000000000000000000000000000000000000000000000000000000007',0,1767269100,'POST','https://seller.example/audio','body','purchase-7','',NULL,'','',1,1.76726880850000667567e+09,1.76726880850000762934e+09,NULL,1.76726880850000858313e+09,'','','no chain to ask',0,0,0,1.76726880850000858313e+09,1.7672689285000066757e+09);
INSERT INTO "hold" VALUES('h00000000000000000000000000000009','direct','settled','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','0xd4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4','live','https://seller.example','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2',700000,'0x0000000000000000000000000000000000000000000000000000000000000008',0,1767269100,'POST','https://seller.example/audio','body','purchase-8','',NULL,'','',1,1.7672688085000095368e+09,1.76726880850001049046e+09,1.76726880850001144412e+09,1.76726880850001144412e+09,'','','receipt',0,10000,0,1.76726880850001144412e+09,1.76726892850000953669e+09);
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    wallet TEXT NOT NULL COLLATE NOCASE,
    network TEXT NOT NULL,
    environment TEXT NOT NULL,
    label TEXT NOT NULL,
    provider TEXT NOT NULL,
    api_url TEXT NOT NULL,
    origin TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned',
    parked_reason TEXT,
    resume_state TEXT,
    queue_id TEXT NOT NULL DEFAULT '',
    price INTEGER,
    missing INTEGER,
    due REAL NOT NULL,
    deadline REAL NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 1,
    last_error TEXT NOT NULL DEFAULT '',
    content_type TEXT NOT NULL DEFAULT '',
    file_sha256 TEXT NOT NULL DEFAULT '',
    file_bytes INTEGER NOT NULL DEFAULT 0,
    path TEXT NOT NULL DEFAULT '',
    refunded TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    queued_at REAL,
    owner TEXT NOT NULL DEFAULT '',
    lease_until REAL NOT NULL DEFAULT 0,
    lease_s REAL NOT NULL DEFAULT 0
);
INSERT INTO "job" VALUES('planned','digest of planned','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','live','','direct','https://seller.example','https://seller.example','elevenlabs-music','{"model":"ace-step-15","prompt":"Weißer Regen"}','{}','planned',NULL,NULL,'',NULL,NULL,1.76726880000000381469e+09,1767355200.0,0,1,'','','',0,'','',1.76726880000000381469e+09,1.76726880000000381469e+09,NULL,'',0.0,0.0);
INSERT INTO "job" VALUES('queued','digest of queued','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','live','','direct','https://seller.example','https://seller.example','elevenlabs-music','{"model":"ace-step-15","prompt":"Weißer Regen"}','{}','queued',NULL,NULL,'q-queued',NULL,NULL,1767268801.25,1767355200.0,0,1,'','','',0,'','',1.76726880000000476835e+09,1767268801.25,1767268801.25,'',1.76726904000000953681e+09,240.0);
INSERT INTO "job" VALUES('saved','digest of saved','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','live','','direct','https://seller.example','https://seller.example','elevenlabs-music','{"model":"ace-step-15","prompt":"Weißer Regen"}','{}','saved',NULL,NULL,'q-saved',NULL,NULL,1767268802.5,1767355200.0,0,1,'','audio/mpeg','abababababababababababababababababababababababababababababababab',7,'/tracks/saved.mp3','',1.76726880000000572202e+09,1.76726880725000095369e+09,1767268802.5,'',1.76726904125000095369e+09,240.0);
INSERT INTO "job" VALUES('failed','digest of failed','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','live','','direct','https://seller.example','https://seller.example','elevenlabs-music','{"model":"ace-step-15","prompt":"Weißer Regen"}','{}','failed',NULL,NULL,'q-failed',NULL,NULL,1767268803.75,1767355200.0,0,1,'no sound','','',0,'','yes',1.76726880000000667568e+09,1.76726880725000190736e+09,1767268803.75,'',1.76726904250000095369e+09,240.0);
INSERT INTO "job" VALUES('unknown','digest of unknown','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','live','','direct','https://seller.example','https://seller.example','elevenlabs-music','{"model":"ace-step-15","prompt":"Weißer Regen"}','{}','parked','unknown','reserved','',NULL,NULL,1.76726880000000762934e+09,1767355200.0,0,1,'','','',0,'','',1.76726880000000762934e+09,1767268808.5,NULL,'',1.76726904725000381465e+09,240.0);
INSERT INTO "job" VALUES('parked','digest of parked','0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1','eip155:8453','live','','direct','https://seller.example','https://seller.example','elevenlabs-music','{"model":"ace-step-15","prompt":"Weißer Regen"}','{}','parked','owner','planned','',NULL,NULL,1.76726880000000858301e+09,1767355200.0,0,1,'too dear','','',0,'','',1.76726880000000858301e+09,1.76726880850000095369e+09,NULL,'',1.76726904850000095369e+09,240.0);
CREATE TABLE payee (
    origin TEXT NOT NULL,
    network TEXT NOT NULL,
    address TEXT NOT NULL COLLATE NOCASE,
    state TEXT NOT NULL CHECK (state IN ('provisional', 'pinned', 'allowed', 'any')),
    how TEXT NOT NULL,
    PRIMARY KEY (origin, network, address)
) WITHOUT ROWID;
INSERT INTO "payee" VALUES('https://seller.example','eip155:8453','0xb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2','pinned','the owner, on a terminal');
CREATE TABLE reading (
    wallet TEXT NOT NULL COLLATE NOCASE,
    origin TEXT NOT NULL,
    balance INTEGER NOT NULL,
    diem INTEGER,
    books INTEGER NOT NULL,
    trust TEXT NOT NULL,
    fallen_by INTEGER NOT NULL,
    read_at REAL NOT NULL,
    minimum_top_up INTEGER NOT NULL,
    PRIMARY KEY (wallet, origin)
) WITHOUT ROWID;
CREATE TABLE secret (hold_id TEXT PRIMARY KEY REFERENCES hold (id), bytes BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO "secret" VALUES('h00000000000000000000000000000005',X'686561646572206F6620756E6B6E6F776E');
CREATE TABLE seller (origin TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "seller" VALUES('https://seller.example','direct');
CREATE TABLE spending_limit (
    purse TEXT NOT NULL,
    scope TEXT NOT NULL,
    "window" TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (purse, scope, "window")
) WITHOUT ROWID;
INSERT INTO "spending_limit" VALUES('jobs','all','day',20000000);
INSERT INTO "spending_limit" VALUES('jobs','model:ace-step-15','day',9000000);
CREATE TABLE suspension (
    wallet TEXT NOT NULL COLLATE NOCASE,
    origin TEXT NOT NULL,
    what TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (wallet, origin, what)
) WITHOUT ROWID;
CREATE TABLE tracked (scope TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO "tracked" VALUES('all');
INSERT INTO "tracked" VALUES('model:ace-step-15');
CREATE TABLE use (
    purse TEXT NOT NULL,
    scope TEXT NOT NULL,
    period TEXT NOT NULL,
    start INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (purse, scope, period, start)
) WITHOUT ROWID;
INSERT INTO "use" VALUES('jobs','all','day',1767268800,4410000);
INSERT INTO "use" VALUES('jobs','all','ever',0,3410000);
INSERT INTO "use" VALUES('jobs','all','held',0,1000000);
INSERT INTO "use" VALUES('jobs','all','hour',1767268800,4410000);
INSERT INTO "use" VALUES('jobs','all','month',1767225600,4410000);
INSERT INTO "use" VALUES('jobs','model:ace-step-15','day',1767268800,3000000);
INSERT INTO "use" VALUES('jobs','model:ace-step-15','ever',0,2000000);
INSERT INTO "use" VALUES('jobs','model:ace-step-15','held',0,1000000);
INSERT INTO "use" VALUES('jobs','model:ace-step-15','hour',1767268800,3000000);
INSERT INTO "use" VALUES('jobs','model:ace-step-15','month',1767225600,3000000);
INSERT INTO "use" VALUES('top-ups','all','day',1767268800,5000000);
INSERT INTO "use" VALUES('top-ups','all','ever',0,5000000);
INSERT INTO "use" VALUES('top-ups','all','held',0,0);
INSERT INTO "use" VALUES('top-ups','all','hour',1767268800,5000000);
INSERT INTO "use" VALUES('top-ups','all','month',1767225600,5000000);
INSERT INTO "use" VALUES('wallet','all','day',1767268800,9410000);
INSERT INTO "use" VALUES('wallet','all','ever',0,9410000);
INSERT INTO "use" VALUES('wallet','all','held',0,1000000);
INSERT INTO "use" VALUES('wallet','all','hour',1767268800,9410000);
INSERT INTO "use" VALUES('wallet','all','month',1767225600,9410000);
INSERT INTO "use" VALUES('wallet','model:ace-step-15','day',1767268800,3000000);
INSERT INTO "use" VALUES('wallet','model:ace-step-15','ever',0,3000000);
INSERT INTO "use" VALUES('wallet','model:ace-step-15','held',0,1000000);
INSERT INTO "use" VALUES('wallet','model:ace-step-15','hour',1767268800,3000000);
INSERT INTO "use" VALUES('wallet','model:ace-step-15','month',1767225600,3000000);
CREATE UNIQUE INDEX hold_nonce ON hold (network, asset, wallet, nonce) WHERE nonce <> '';
CREATE UNIQUE INDEX hold_live_job ON hold (job_id)
    WHERE state IN ('reserved', 'signed') AND kind <> 'topup' AND job_id IS NOT NULL;
CREATE UNIQUE INDEX hold_live_topup ON hold (wallet) WHERE state IN ('reserved', 'signed') AND kind = 'topup';
CREATE UNIQUE INDEX hold_open_purchase ON hold (wallet, purchase)
    WHERE state IN ('reserved', 'signed') AND delivered_at IS NULL;
CREATE INDEX hold_job ON hold (job_id, created_at) WHERE job_id IS NOT NULL;
CREATE INDEX hold_state ON hold (state, created_at);
CREATE INDEX hold_wallet ON hold (wallet, created_at);
CREATE INDEX hold_undecided_draw ON hold (wallet, origin)
    WHERE kind = 'credit' AND state IN ('reserved', 'signed', 'presumed');
CREATE INDEX hold_draw ON hold (wallet, origin, resolved_at) WHERE kind = 'credit' AND state = 'settled';
CREATE INDEX hold_credited ON hold (wallet, origin, resolved_at) WHERE kind = 'topup' AND state = 'settled';
CREATE INDEX hold_payee ON hold (origin, pay_to, state) WHERE pay_to <> '';
CREATE TRIGGER hold_fields_never_change BEFORE UPDATE OF id, kind, wallet, network, asset, environment, origin, pay_to,
    amount, nonce, valid_after, valid_before, method, resource, body_digest, purchase, job_id, model, label, created_at,
    late_charge ON hold
BEGIN SELECT RAISE(ABORT, 'the fields of a hold never change'); END;
CREATE TRIGGER hold_never_goes BEFORE DELETE ON hold
BEGIN SELECT RAISE(ABORT, 'a hold is never deleted'); END;
CREATE UNIQUE INDEX entry_one_refund ON entry (hold_id) WHERE kind = 'refund';
CREATE INDEX job_unfinished ON job (created_at)
    WHERE state NOT IN ('completed', 'failed', 'cancelled', 'expired');
CREATE INDEX job_state ON job (state, created_at);
CREATE INDEX job_wallet ON job (wallet, created_at);
CREATE INDEX job_digest ON job (digest, created_at);
CREATE INDEX event_wallet ON event (wallet, seq);
CREATE INDEX event_subject ON event (subject, seq);
CREATE TRIGGER event_never_changes BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'an event never changes'); END;
CREATE TRIGGER event_never_goes BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END;
COMMIT;
