package db

import (
	"context"

	"github.com/castellan-security/castellan/internal/store"
)

func admissionPolicies() *policyTable {
	return &policyTable{
		name: "admission", command: "admit policy", max: store.MaxAdmissionPolicy, keeps: store.MaxAdmissionPolicies,
		newest: "SELECT coalesce(max(version), 0) FROM admission_policies",
		insert: "INSERT INTO admission_policies (digest, text, actor, comment, created) VALUES (?,?,?,?,?)",
		prune:  "DELETE FROM admission_policies WHERE version <= ?",
		one:    "SELECT version, digest, text, actor, comment, created FROM admission_policies WHERE version = ?",
		last:   "SELECT version, digest, text, actor, comment, created FROM admission_policies WHERE version = (SELECT max(version) FROM admission_policies)",
		page:   "SELECT version, digest, actor, comment, created FROM admission_policies WHERE version < ? ORDER BY version DESC LIMIT ?",
	}
}

// PutAdmissionPolicy implements store.AdmissionPolicies.
func (d *DB) PutAdmissionPolicy(ctx context.Context, p store.AdmissionPolicy, after int64) (store.AdmissionPolicy, error) {
	v, err := admissionPolicies().put(ctx, d, policyVersion(p), after, nil)
	return store.AdmissionPolicy(v), err
}

// AdmissionPolicy implements store.AdmissionPolicies.
func (d *DB) AdmissionPolicy(ctx context.Context, version int64) (store.AdmissionPolicy, error) {
	v, err := admissionPolicies().get(ctx, d, version)
	return store.AdmissionPolicy(v), err
}

// AdmissionPolicies implements store.AdmissionPolicies.
func (d *DB) AdmissionPolicies(ctx context.Context, before int64, limit int) (all []store.AdmissionPolicy, err error) {
	err = admissionPolicies().list(ctx, d, before, limit, func(v policyVersion) { all = append(all, store.AdmissionPolicy(v)) })
	return all, err
}
