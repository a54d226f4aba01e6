package db

import (
	"context"

	"github.com/castellan-security/castellan/internal/store"
)

func trustPolicies() *policyTable {
	return &policyTable{
		name: "trust", command: "trust policy", max: store.MaxTrustPolicy, keeps: store.MaxTrustPolicies,
		newest: "SELECT coalesce(max(version), 0) FROM trust_policies",
		insert: "INSERT INTO trust_policies (digest, text, actor, comment, created) VALUES (?,?,?,?,?)",
		prune:  "DELETE FROM trust_policies WHERE version <= ?",
		one:    "SELECT version, digest, text, actor, comment, created FROM trust_policies WHERE version = ?",
		last:   "SELECT version, digest, text, actor, comment, created FROM trust_policies WHERE version = (SELECT max(version) FROM trust_policies)",
		page:   "SELECT version, digest, actor, comment, created FROM trust_policies WHERE version < ? ORDER BY version DESC LIMIT ?",
	}
}

// PutTrustPolicy implements store.TrustPolicies.
func (d *DB) PutTrustPolicy(ctx context.Context, p store.TrustPolicy, after int64) (store.TrustPolicy, error) {
	v, err := trustPolicies().put(ctx, d, policyVersion(p), after, func(ctx context.Context, w *writer) error {
		_, err := w.exec(ctx, "UPDATE trust_images SET due = 0, tries = 0 WHERE idle IN (0, 1, 2) AND rank <> ?", trustRank(store.TrustLocal))
		return err
	})
	return store.TrustPolicy(v), err
}

// TrustPolicy implements store.TrustPolicies.
func (d *DB) TrustPolicy(ctx context.Context, version int64) (store.TrustPolicy, error) {
	v, err := trustPolicies().get(ctx, d, version)
	return store.TrustPolicy(v), err
}

// TrustPolicies implements store.TrustPolicies.
func (d *DB) TrustPolicies(ctx context.Context, before int64, limit int) (all []store.TrustPolicy, err error) {
	err = trustPolicies().list(ctx, d, before, limit, func(v policyVersion) { all = append(all, store.TrustPolicy(v)) })
	return all, err
}
