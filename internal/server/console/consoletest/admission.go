package consoletest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// firstAdmission only tells what it would refuse.
const firstAdmission = `version: 1
mode: audit
rules:
  - use: not-signed
  - use: privileged
`

// secondAdmission refuses, but for one service.
const secondAdmission = `version: 1
mode: enforce

scopes:
  - name: the worker gets time
    where: {family: shop-worker}
    mode: audit

rules:
  - use: not-signed
  - use: not-scanned
    unknown: wait
  - use: vulnerabilities
    with: {severity: critical, fixable: true}
  - use: exploited-vulnerabilities
  - use: privileged
  - use: exec
  - id: no-shell
    title: No shell in production
    for: container
    deny: container.command.exists(c, c.endsWith("/sh"))
    message: "{container.name} begins with a shell"
    remedy: run the program itself
`

// AdmissionPolicies are the versions of the shop's admission policy, the newest
// last.
func AdmissionPolicies(now time.Time) []store.AdmissionPolicy {
	now = now.UTC().Truncate(time.Millisecond)
	of := func(version int64, text, comment string, days int) store.AdmissionPolicy {
		return store.AdmissionPolicy{
			Version: version, Text: text, Digest: admissionOf(text).Digest(), Actor: "user:admin", Comment: comment, Created: now.Add(-time.Duration(days) * 24 * time.Hour),
		}
	}
	return []store.AdmissionPolicy{of(1, firstAdmission, "", 20), of(2, secondAdmission, "it has only told for long enough "+HostileName, 3)}
}

func admissionOf(text string) *admit.Policy {
	p, err := admit.Read([]byte(text), "policy")
	if err != nil {
		panic("the shop's admission policy is none: " + err.Error()) // it is a value of this file
	}
	return p
}

// AdmissionExceptions are what people of the shop gave leave for: one holds, one has
// expired, and one was withdrawn. The newest are first.
func AdmissionExceptions(now time.Time) []store.AdmissionException {
	now = now.UTC().Truncate(time.Millisecond)
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	return []store.AdmissionException{
		{Exception: admission.Exception{ID: "3", Rules: []string{"exec"}, Owner: "platform", Reason: "the debugger of " + HostileName, Expires: day(5), Cluster: "shop", Service: "storefront"}, By: "user:mira", Created: day(-2)},
		{Exception: admission.Exception{ID: "2", Rules: []string{"privileged"}, Owner: "platform", Reason: "a migration", Expires: day(30), Family: "migrate"}, By: "user:admin", Created: day(-9), Withdrawn: day(-8), WithdrawnBy: "user:mira"},
		{Exception: admission.Exception{ID: "1", Rules: []string{"vulnerabilities"}, Owner: "shop", Reason: "not reached by anybody", Expires: day(-1), Subject: "CVE-2021-44228"}, By: "user:admin", Created: day(-31)},
	}
}

// AdmissionVerdicts are what was asked for in the shop and what came of it, the
// oldest first: decided by its policy, with what the shop knows.
func (s Shop) AdmissionVerdicts(now time.Time) []store.AdmissionVerdict {
	now = now.UTC().Truncate(time.Millisecond)
	p := admissionOf(secondAdmission)
	var exceptions []admission.Exception
	for _, e := range AdmissionExceptions(now) {
		if e.Holds(now) {
			exceptions = append(exceptions, e.Exception)
		}
	}
	var out []store.AdmissionVerdict
	for i, r := range s.requests() {
		at := now.Add(-time.Duration(90-13*i) * time.Minute)
		r.ID, r.At = fmt.Sprintf("req-%d", i+1), at
		v := store.AdmissionVerdict{ID: int64(i + 1), Received: at, Request: r}
		if r.Door == admission.Docker {
			v.Agent = AgentID
		} else {
			v.Actor = "token:gate"
		}
		facts := map[string]*admission.Facts{}
		for k := range r.Task.Containers {
			if f := s.factsOf(&r.Task.Containers[k].Image, at); f != nil {
				facts[f.Digest] = f
				kept, err := store.NewAdmissionFacts(f)
				if err != nil {
					panic("facts of the shop are no JSON: " + err.Error()) // they are values of this file
				}
				v.Facts = append(v.Facts, kept)
			}
		}
		v.Verdict = p.Decide(context.Background(), &r, admit.Given{Facts: facts, Exceptions: exceptions, Now: at})
		out = append(out, v)
	}
	return out
}

// requests are what was asked for, the oldest first.
func (s Shop) requests() []admission.Request {
	task := func(id string, door admission.Door, action admission.Action) admission.Request {
		w := s.workload(id)
		image := admission.ParseImage(w.Image.Reference)
		sum := sha256.Sum256([]byte(w.Image.Reference)) // each image has its own, as registries have it
		image.Digest, image.ID = "sha256:"+hex.EncodeToString(sum[:]), w.Image.ID
		r := admission.Request{Door: door, Action: action, Place: admission.Place{Account: "123456789012", Region: "eu-central-1", Cluster: "shop", Service: w.ECS.Service}}
		r.Task = admission.Task{Family: w.ECS.Family, Revision: "7", Network: "awsvpc", Containers: []admission.Container{{Name: w.ECS.Container, Image: image}}}
		if door == admission.Docker {
			r.Place.Host, r.By = AgentID, admission.Caller{Agent: true}
			r.Task.Revision = ""
		}
		return r
	}
	worker := task(Worker, admission.Docker, admission.Run)
	worker.Task.Containers[0].Privileged = true
	worker.Task.Containers[0].Mounts = []admission.Mount{{Kind: "bind", Source: "/var/run/docker.sock", Target: "/var/run/docker.sock"}}
	entered := task(Storefront, admission.Docker, admission.Exec)
	entered.Exec = &admission.Process{Command: []string{"/bin/sh", "-c", HostileArg}, TTY: true}
	entered.By = admission.Caller{}
	fresh := task(Storefront, admission.CI, admission.Register)
	fresh.Task.Containers[0].Image = admission.ParseImage("123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/storefront:2.5.0")
	fresh.Task.Containers[0].Image.Digest = "sha256:5e9a12cf00b1d2e3f405162738495a6b7c8d9eaf0b1c2d3e4f5061728394a5b6"
	fresh.Place.File, fresh.By = "deploy/storefront.json", admission.Caller{Name: "refs/heads/main", Method: "OIDC"}
	odd := task(Hostile, admission.Docker, admission.Run)
	odd.Task.Containers[0].Command = []string{"/bin/sh"}
	odd.Place.Cluster, odd.Place.Service = "", ""
	return []admission.Request{
		task(Storefront, admission.Service, admission.Run), worker, odd, entered, fresh, task(API, admission.Service, admission.Run),
	}
}

func (s Shop) workload(id string) asset.Workload {
	for _, w := range s.Workloads {
		if w.ID == id {
			return w
		}
	}
	panic("the shop has no workload " + id)
}

// factsOf is what is known of an image of the shop, nil if it is none.
func (s Shop) factsOf(i *admission.Image, at time.Time) *admission.Facts {
	if i.Digest == "" {
		return nil
	}
	f := &admission.Facts{Digest: i.Digest, At: at, Created: at.Add(-40 * 24 * time.Hour), Owners: []string{"shop"}}
	f.Trust = admission.Trust{State: admission.Known, At: at}
	switch i.Reference {
	case s.workload(Storefront).Image.Reference:
		f.Trust.Allowed, f.Trust.Signers = true, []admission.Signer{{Names: []string{"build"}, Identity: "key build", Kind: "sigstore", At: at.Add(-time.Hour)}}
		f.Scan = admission.Scan{State: admission.Known, At: at.Add(-2 * time.Hour), Database: at.Add(-26 * time.Hour), Distribution: "debian 12", Vulnerabilities: []admission.Vulnerability{
			{ID: "CVE-2024-0727", Package: "openssl", Version: "3.0.11", Fixed: "3.0.13", Severity: finding.Medium, Score: 5.5},
		}}
	case s.workload(API).Image.Reference:
		f.Trust.Why, f.Trust.Remedy = "there is no signature that counts by build, quality: 0 of 2 count", "let the signer run castellan trust sign"
		f.Scan = admission.Scan{State: admission.Known, At: at.Add(-2 * time.Hour), Database: at.Add(-26 * time.Hour), Distribution: "alpine 3.18", Vulnerabilities: []admission.Vulnerability{
			{ID: "CVE-2021-44228", Package: "log4j-core", Version: "2.14.1", Fixed: "2.17.1", Severity: finding.Critical, Score: 10, EPSS: 0.97, KEV: true},
			{ID: "CVE-2024-21538", Package: HostileName, Version: "7.0.3", Fixed: "7.0.5", Severity: finding.Critical, Score: 9.1, EPSS: 0.01},
		}, Secrets: []admission.Found{{Rule: "aws-key", Title: "AWS access key", Severity: finding.High, Place: "/app/.env"}}}
	case s.workload(Worker).Image.Reference:
		f.Trust.Why, f.Trust.Remedy = "it is unsigned", "let the signer run castellan trust sign"
		f.Scan = admission.Scan{State: admission.Failed, Why: "read layer 3: the registry answered 401 Unauthorized"}
	default:
		f.Trust = admission.Trust{State: admission.Waiting}
		f.Scan = admission.Scan{State: admission.Waiting}
	}
	return f
}

// FillAdmission puts the shop's admission policy, its exceptions and what came of
// requests into a store.
func (s Shop) FillAdmission(ctx context.Context, st store.Admission, now time.Time) error {
	for _, p := range AdmissionPolicies(now) {
		if _, err := st.PutAdmissionPolicy(ctx, p, p.Version-1); err != nil {
			return fmt.Errorf("fill admission policies: %w", err)
		}
	}
	all := AdmissionExceptions(now)
	for i := len(all) - 1; i >= 0; i-- {
		e, err := st.PutAdmissionException(ctx, all[i])
		if err != nil {
			return fmt.Errorf("fill exceptions: %w", err)
		}
		if !all[i].Withdrawn.IsZero() {
			if _, err := st.WithdrawAdmissionException(ctx, e.ID, all[i].WithdrawnBy, all[i].Withdrawn); err != nil {
				return fmt.Errorf("fill exceptions: %w", err)
			}
		}
	}
	if err := st.PutAdmissionVerdicts(ctx, s.AdmissionVerdicts(now)); err != nil {
		return fmt.Errorf("fill verdicts: %w", err)
	}
	return nil
}
