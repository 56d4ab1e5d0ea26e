-- Two years of incidents of ten thousand accounts. 99 of 100 are disabled, and few have a rarer action. Every fiftieth
-- incident is in the same popular repository. One incident has 0.1 * :incidents further places, and one account has as
-- many further tokens. Each incident has three audit entries. The oldest hundredth of the incidents belongs to accounts
-- that have no newer ones.
-- bench_console.py runs these statements, and replaces :incidents and :places by numbers.

INSERT INTO accounts (id, name, created_at)
SELECT n, 'account-' || n, now() FROM generate_series(1, 10000) n;

INSERT INTO api_tokens (id, digest, name, hint, account_id, created_at, disabled_at)
SELECT n, md5('a' || n) || md5('b' || n), 'token-' || n % 5000, 'r8_' || left(md5('a' || n), 3) || '…' || n % 10000,
    1 + n % 10000, now() - interval '800 days', now() FROM generate_series(1, :incidents) n;

INSERT INTO incidents (id, digest, hint, token_id, token_name, account_id, account_name, cause, action, state,
    detected_at, disabled_at, evidence, attempts)
SELECT md5('i' || n)::uuid, md5('a' || n) || md5('b' || n), 'r8_' || left(md5('a' || n), 3) || '…' || n % 10000,
    n::text, 'token-' || n % 5000, (1 + n % 10000)::text,
    CASE WHEN n > 0.995 * :incidents THEN 'retired' WHEN n > 0.99 * :incidents THEN 'retired-' || n % 100
        ELSE 'account-' || 1 + n % 10000 END,
    CASE WHEN n % 500 = 0 THEN 'compromise_signs' ELSE 'public_repository' END,
    CASE WHEN n % 10000 = 1 THEN 'protected' WHEN n % 10000 = 2 THEN 'flagged' WHEN n % 100 = 3
        THEN 'already_disabled' ELSE 'disabled' END,
    CASE WHEN n % 3 = 0 AND n % 10000 > 2 THEN 'closed' ELSE 'open' END,
    now() - n * interval '730 days' / :incidents,
    now() - n * interval '730 days' / :incidents + interval '0.2 s', '{}', 0
FROM generate_series(1, :incidents) n;

INSERT INTO exposures (incident_id, kind, url, repository, path, line, "column", encoding, container, published_at,
    source, place_key, seen_at)
SELECT md5('i' || n)::uuid, 'file', 'https://github.com/owner-' || n % 200000 || '/app/blob/main/.env',
    CASE WHEN n % 50 = 0 THEN 'acme/popular' ELSE 'owner-' || (n + p) % 200000 || '/app' END, 'src/.env', p, 1, 'plain',
    '', now() - n * interval '730 days' / :incidents - interval '2 s',
    CASE WHEN n % 20 = 0 THEN 'code_search' WHEN n % 5000 = 7 THEN 'rescan' ELSE 'public_events' END,
    md5('p' || n || '-' || p) || md5('q' || p), now() - n * interval '730 days' / :incidents
FROM generate_series(1, :incidents) n, generate_series(1, :places) p;

INSERT INTO notifications (id, channel, merge_key, account_id, recipient, state, attempts, next_attempt_at, facts,
    message_id, created_at, sent_at)
SELECT md5('m' || n)::uuid, 'email', 'k' || n, (1 + n % 10000)::text, 'owner-' || n % 10000 || '@example.com',
    CASE WHEN n % 3000 = 5 THEN 'failed' WHEN n < 20 THEN 'pending' ELSE 'sent' END, 1, now(), NULL, '<' || n || '@x>',
    now() - n * interval '730 days' / :incidents, now() FROM generate_series(1, :incidents) n;

INSERT INTO notification_subjects (notification_id, incident_id, channel, merge_key, occasion)
SELECT md5('m' || n)::uuid, md5('i' || n)::uuid, 'email', 'k' || n, 'disabled' FROM generate_series(1, :incidents) n;

INSERT INTO api_tokens (id, digest, name, hint, account_id, created_at, disabled_at)
SELECT :incidents + n, md5('c' || n) || md5('d' || n), 'robot-' || n, 'r8_' || left(md5('c' || n), 3) || '…' || n % 10000,
    10000, now(), NULL FROM generate_series(1, :incidents / 10) n;

INSERT INTO exposures (incident_id, kind, url, repository, path, line, "column", encoding, container, published_at,
    source, place_key, seen_at)
SELECT md5('i60')::uuid, 'file', 'https://github.com/flood/app/blob/main/.env', 'flood/app', 'src/' || n, n, 1, 'plain',
    '', now(), 'public_events', md5('f' || n) || md5('g' || n), now() FROM generate_series(1, :incidents / 10) n;

INSERT INTO audit (at, who, what, incident_id, evidence, nonce, previous_hash, hash)
SELECT now() - n * interval '730 days' / :incidents,
    CASE WHEN n % 1000 = 0 AND what = 'incident_opened' THEN 'console:ana' ELSE 'r8scan' END,
    CASE WHEN n % 5000 = 0 AND what = 'incident_opened' THEN 'note' ELSE what END,
    md5('i' || n)::uuid, '{"source": "public_events"}', md5('n' || n), '', ''
FROM generate_series(1, :incidents) n, unnest(ARRAY['incident_opened', 'token_disabled', 'mail_sent']) what;

INSERT INTO scan_jobs (kind, source, priority, items, target, state, attempts, failures, next_attempt_at, progress,
    counts, error, is_shared, created_at, finished_at, parent_id)
SELECT 'repository', 'rescan', 10, 1, '{"repository": "acme/popular"}', CASE WHEN n % 500 = 0 THEN 'partial' ELSE 'done'
    END, 1, 0, now(), '{}', '{"unread_too_large": 2}', NULL, false, now(), now(), CASE WHEN n > 10 THEN 1 + n % 3 END
FROM generate_series(1, :incidents / 50) n;

INSERT INTO scan_jobs (kind, source, priority, items, target, state, attempts, failures, next_attempt_at, progress,
    counts, error, is_shared, created_at, finished_at)
SELECT 'pushes', 'public_events', 100, 1, '{"pushes": []}', CASE WHEN n % 1000 = 0 THEN 'failed' WHEN n < 200 THEN 'queued'
    ELSE 'done' END, 1, 0, now(), '{}', '{}', 'GaveUp: no progress', false, now(), now()
FROM generate_series(1, :incidents / 2) n;
