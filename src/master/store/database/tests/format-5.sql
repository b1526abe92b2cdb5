-- A database as version 0.1.0 leaves it: format 5. Two agents, an operator, a token, seven jobs with different ends, audit records.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (only INTEGER PRIMARY KEY CHECK (only = 1), epoch INTEGER NOT NULL, revision INTEGER NOT NULL, clock_ms INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO meta VALUES(1,1,22,0);
CREATE TABLE agents (
        name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, enrolled_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,
        labels TEXT NOT NULL, version TEXT NOT NULL, address TEXT NOT NULL, trust TEXT NOT NULL
    , set_labels TEXT NOT NULL DEFAULT '{}', drain TEXT) STRICT;
INSERT INTO agents VALUES('web-1','F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F',1796080197814,1796080197823,'{}','0.1.0','127.0.0.1:50302','token','{"role":"web"}',NULL);
INSERT INTO agents VALUES('web-2','E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80',1796080197835,1796080197840,'{}','0.1.0','127.0.0.1:50332','token','{}','{"reason":"disk swap","by":"root","since_ms":1796080208056}');
CREATE TABLE tokens (hash TEXT PRIMARY KEY, expires_ms INTEGER NOT NULL, uses_left INTEGER NOT NULL, made_ms INTEGER NOT NULL DEFAULT 0, made_by TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO tokens VALUES('D2A55A6C473C45D8CE01B0529C88E24096EAD8E7A30ACAF22452E6A6940C3DBC',1796083808068,3,1796080208068,'root');
CREATE TABLE runs (
        id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, operator TEXT NOT NULL, target TEXT NOT NULL,
        plain_name INTEGER NOT NULL, command TEXT NOT NULL, options TEXT NOT NULL, created_ms INTEGER NOT NULL,
        ended_ms INTEGER, left_out TEXT NOT NULL, task_count INTEGER NOT NULL
    , gate TEXT NOT NULL DEFAULT '{}', gone TEXT, succeeded INTEGER) STRICT;
INSERT INTO runs VALUES('01M8QBJ14BKF4Q0EDP3MCMXDKC',1,'root','web-1',1,'["echo nginx; exit 0"]','{"environment":[],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":null,"batch":null,"max_failures":null,"pause_ms":null,"stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"block","taken_back":false,"output_cap":null,"input":"nothing"}',1796080206988,1796080206992,'[]',1,'{}',NULL,1);
INSERT INTO runs VALUES('01M8QBJ14JQNQF51WX00HRWAF7',2,'root','web-[1-2]',0,'["exit 3"]','{"environment":[{"name":"A","value":"secret"}],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":null,"batch":null,"max_failures":null,"pause_ms":null,"stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"block","taken_back":false,"output_cap":null,"input":"nothing"}',1796080206994,1796080206999,'[]',2,'{}',NULL,0);
INSERT INTO runs VALUES('01M8QBJ14S2CRJYR9FYMAXYY7D',3,'root','web-2',1,'["sleep 9"]','{"environment":[],"working_directory":null,"timeout_ms":1000,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":null,"batch":null,"max_failures":null,"pause_ms":null,"stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"block","taken_back":false,"output_cap":null,"input":"nothing"}',1796080207001,1796080208011,'[]',1,'{}',NULL,0);
INSERT INTO runs VALUES('01M8QBJ24DYQ26M2XY954EPCRA',4,'root','web-1',1,'["sleep 300"]','{"environment":[],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":null,"batch":null,"max_failures":null,"pause_ms":null,"stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"gap","taken_back":false,"output_cap":null,"input":"nothing"}',1796080208014,1796080208022,'[]',1,'{}',NULL,0);
INSERT INTO runs VALUES('01M8QBJ24VK5W2SB80VZMQQBWZ',5,'root','web-2',1,'["sleep 3000"]','{"environment":[],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":null,"batch":null,"max_failures":null,"pause_ms":null,"stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"gap","taken_back":false,"output_cap":null,"input":"nothing"}',1796080208028,NULL,'[]',1,'{}',NULL,NULL);
INSERT INTO runs VALUES('01M8QBJ250M814QGT4VE5E6EW3',6,'root','web-*',0,'["false"]','{"environment":[],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":1,"batch":null,"max_failures":null,"pause_ms":null,"stop_if":{"failures":true,"differs":false},"masks":""},"overflow":"block","taken_back":false,"output_cap":null,"input":"nothing"}',1796080208033,NULL,'[]',2,'{"open_batch":0,"state":{"held":"1 failed (web-1 exited 1)"},"forgiven":0,"accepted":[]}',NULL,NULL);
INSERT INTO runs VALUES('01M8QBJ255YHYDZKN8SNAZXT20',7,'root','web-*',0,'["kill -9 $$"]','{"environment":[],"working_directory":null,"timeout_ms":null,"start_within_ms":null,"kill_grace_ms":null,"now":false,"plan":{"fanout":null,"canary":null,"batch":"1","max_failures":"0","pause_ms":null,"stop_if":{"failures":false,"differs":false},"masks":""},"overflow":"block","taken_back":false,"output_cap":null,"input":"nothing"}',1796080208037,1796080208047,'[]',2,'{"open_batch":0,"state":{"stopped":"1 of 2 failed, over --max-failures 0"},"forgiven":0,"accepted":[]}',NULL,0);
CREATE TABLE tasks (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL, agent TEXT NOT NULL,
        fingerprint TEXT NOT NULL, incarnation TEXT, outcome TEXT, succeeded INTEGER NOT NULL, started_ms INTEGER,
        duration_ns INTEGER NOT NULL, end_offset INTEGER NOT NULL, batch INTEGER NOT NULL,
        start_by_ms INTEGER NOT NULL, cancelled_by TEXT, later TEXT, PRIMARY KEY (run, position)
    ) STRICT, WITHOUT ROWID;
INSERT INTO tasks VALUES('01M8QBJ14BKF4Q0EDP3MCMXDKC',0,'web-1','F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F','4df6bc913a8d65df/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"exited":0},"background":0}',1,1796080206992,1556357,6,0,1796080262825,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ14JQNQF51WX00HRWAF7',0,'web-1','F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F','4df6bc913a8d65df/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"exited":3},"background":0}',0,1796080206996,1248859,0,0,1796080262824,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ14JQNQF51WX00HRWAF7',1,'web-2','E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80','c9fb7d4eb5726cf7/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"exited":3},"background":0}',0,1796080206998,1257992,0,0,1796080262841,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ14S2CRJYR9FYMAXYY7D',0,'web-2','E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80','c9fb7d4eb5726cf7/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"timed_out":{"ended":1,"left":[]}},"background":0}',0,1796080207012,1003815497,0,0,1796080262841,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ24DYQ26M2XY954EPCRA',0,'web-1','F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F','4df6bc913a8d65df/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"cancelled":{"proof":{"ended":1,"left":[]},"by":"root"}},"background":0}',0,NULL,6185336,0,0,1796080267824,'root',NULL);
INSERT INTO tasks VALUES('01M8QBJ24VK5W2SB80VZMQQBWZ',0,'web-2','E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80','c9fb7d4eb5726cf7/f86c46d5-4650-4aa9-b803-23dd26fbb731',NULL,0,1796080208029,0,0,0,1796080267841,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ250M814QGT4VE5E6EW3',0,'web-1','F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F','4df6bc913a8d65df/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"exited":1},"background":0}',0,1796080208034,1358142,0,0,1796080267824,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ250M814QGT4VE5E6EW3',1,'web-2','E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80',NULL,NULL,0,NULL,0,0,1,0,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ255YHYDZKN8SNAZXT20',0,'web-1','F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F','4df6bc913a8d65df/f86c46d5-4650-4aa9-b803-23dd26fbb731','{"ending":{"signaled":9},"background":0}',0,1796080208039,8280515,0,0,1796080267824,NULL,NULL);
INSERT INTO tasks VALUES('01M8QBJ255YHYDZKN8SNAZXT20',1,'web-2','E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80',NULL,'{"ending":{"skipped":"1 of 2 failed, over --max-failures 0"},"background":0}',0,NULL,0,0,1,0,NULL,NULL);
CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, detail TEXT NOT NULL
    ) STRICT;
INSERT INTO audit VALUES(1,1796080197795,'root','create token','A31A3B81','1 uses, 3600 s');
INSERT INTO audit VALUES(2,1796080197809,'root','create token','D2FA029A','1 uses, 3600 s');
INSERT INTO audit VALUES(3,1796080197814,'enrollment','enroll','web-1','token, key F7028BCD1EAD44D9DCAF73B1BBEB1108D071FF3348EB86A5EA12D6148F39B12F');
INSERT INTO audit VALUES(4,1796080197835,'enrollment','enroll','web-2','token, key E484F92A69E46BD4137845D71ACBC4E8627B717DC7549CDFBDF9713EB9690F80');
INSERT INTO audit VALUES(5,1796080206985,'root','label','web-1','role=web');
INSERT INTO audit VALUES(6,1796080206988,'root','run','web-1','run 1: echo nginx; exit 0');
INSERT INTO audit VALUES(7,1796080206994,'root','run','web-[1-2]','run 2: exit 3');
INSERT INTO audit VALUES(8,1796080207001,'root','run','web-2','run 3: sleep 9');
INSERT INTO audit VALUES(9,1796080208014,'root','run','web-1','run 4: sleep 300');
INSERT INTO audit VALUES(10,1796080208019,'root','cancel','run 4','1 tasks');
INSERT INTO audit VALUES(11,1796080208028,'root','run','web-2','run 5: sleep 3000');
INSERT INTO audit VALUES(12,1796080208033,'root','run','web-*','run 6: false');
INSERT INTO audit VALUES(13,1796080208037,'root','run','web-*','run 7: kill -9 $$');
INSERT INTO audit VALUES(14,1796080208056,'root','drain','web-2','disk swap');
INSERT INTO audit VALUES(15,1796080208064,'root','invite operator','ana','viewer');
INSERT INTO audit VALUES(16,1796080208068,'root','create token','D2A55A6C','3 uses, 3600 s');
CREATE TABLE operators (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, unix_user TEXT NOT NULL, keys TEXT NOT NULL,
        login TEXT, added_ms INTEGER NOT NULL, added_by TEXT NOT NULL, logged_in_ms INTEGER NOT NULL,
        revoked INTEGER NOT NULL
    ) STRICT;
INSERT INTO operators VALUES('ana','viewer','','[]','{"hash":"1272BFFE8FAE8D43CA5E4A0519239729DD00358F6D304473FAB8F2117D2C7F81","expires_ms":1796083808064,"used_by":null}',1796080208064,'root',0,0);
CREATE INDEX runs_ended ON runs (ended_ms) WHERE gone IS NULL;
CREATE INDEX tasks_agent ON tasks (agent, run);
COMMIT;
PRAGMA user_version = 5;
