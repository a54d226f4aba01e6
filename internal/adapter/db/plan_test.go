package db_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// mayScan lists the walks over a whole table that are meant, and why.
var mayScan = map[string]string{
	"SELECT coalesce(sum(events), 0) FROM blocks":                                           "one small row for 256 events",
	"SELECT coalesce(min(id), ?) FROM blocks":                                               "the first row",
	"SELECT id FROM blocks WHERE max_received < ?":                                          "one small row for 256 events, once a retention run",
	"SELECT id FROM blocks WHERE min_received < ?":                                          "as above",
	"SELECT body FROM agents ORDER BY id":                                                   "one row an agent, and all are wanted",
	"SELECT id, name, role, password_hash":                                                  "one row a user, and all are wanted",
	"SELECT count(id) FROM users WHERE role = ?":                                            "one row a user",
	"DELETE FROM sources WHERE id IN":                                                       "one row a start of an agent, once a retention run",
	"UPDATE trust_images SET due = 0":                                                       "one row an image that runs, once a change of the policy",
	"INSERT INTO sessions":                                                                  "a single row by primary key",
	"SELECT id, hash, name, actor, created, expires, used, agent FROM invitations ORDER BY": "one row an invitation of the last weeks, and all are wanted",
	"UPDATE images SET workloads = (SELECT count(w.image) FROM workloads w WHERE w.image = images.id)\n\t\tWHERE": "one row an image, once a retention run",
	"SELECT number FROM images WHERE workloads = 0":                                                               "as above",
	"DELETE FROM details WHERE id IN":                                                                             "one row a weakness, once a retention run",
	"DELETE FROM aliases WHERE":                                                                                   "as above",
	"SELECT count(id) FROM acceptances":                                                                           "one row a decision of a person",
	"SELECT id, kind, vulnerability, rule, path, package, image, reason, actor":                                   "as above, and all are wanted",
	"SELECT pattern, name, contact FROM owners ORDER BY":                                                          "one row a rule of a person, and all are wanted",
	"UPDATE images SET state = 'waiting', pending = 1, tries = 0, error = '', next = ?\n":                         "the few agents that are silent",
	"UPDATE images SET state = CASE scanned":                                                                      "as above",
	"SELECT f.number FROM facets f":                                                                               "one small row for what images share of findings, once a retention run",
	"SELECT number FROM facets":                                                                                   "one small row for what images share of findings, once a retention run",
	"SELECT v.number, v.weakness, v.rank, v.fixable FROM facets v NOT INDEXED WHERE":                              "as above, and most are wanted; never one of each finding",
	"SELECT weakness, severity FROM running_weaknesses":                                                           "every ten minutes each is held against what runs now",
	"SELECT id, created, withdrawn, actor, withdrawn_by, body FROM admission_exceptions ORDER BY":                 "one row a decision of a person, and all are wanted",
	"DELETE FROM admission_bodies WHERE id IN":                                                                    "one small row for what verdicts share, once a retention run",
	"SELECT count(id) FROM admission_verdicts":                                                                    "once a retention run",
	"SELECT count(name) FROM behaviour_groups":                                                                    "once a new group",
	"SELECT serial, agent, hostname, address, issued, expires, revoked FROM certificates ORDER BY":                "a few rows an agent, and all are wanted",
}

// fullScan is a walk over all rows, be it of the table or of an index; not
// that over the rows of an INSERT, nor over a list that the statement is given.
var fullScan = regexp.MustCompile(`^SCAN [a-z]\w*`)

// TestStatementsUseIndexes runs everything and looks at the plan of every
// statement that was sent.
func TestStatementsUseIndexes(t *testing.T) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	const n = 3_000
	fill(t, d, n)
	mixed := newMixed(2)
	for range 5 {
		batch := mixed.batch(500)
		for i := range batch {
			batch[i].Boot = "boot-2"
		}
		if err := d.AppendEvents(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	useEverything(t, d, n)
	statements := d.Statements()
	if len(statements) < 100 {
		t.Errorf("only %d statements were seen", len(statements))
	}
	for _, st := range statements {
		if strings.HasPrefix(st, "PRAGMA") || strings.HasPrefix(st, "BEGIN") || st == "COMMIT" || st == "ROLLBACK" {
			continue
		}
		steps, err := d.Explain(t.Context(), st)
		if err != nil {
			t.Errorf("%s: %v", st, err)
		}
		for _, step := range steps {
			if fullScan.MatchString(step) && !strings.HasPrefix(step, "SCAN json_each ") && !excused(st) {
				t.Errorf("%s\n\treads a whole table: %s", st, step)
			}
			if strings.Contains(step, "TEMP B-TREE") && !strings.Contains(st, "event_rates") && !strings.Contains(st, "FROM tokens") {
				t.Errorf("%s\n\tsorts: %s", st, step)
			}
		}
		if strings.Contains(st, "*") && !strings.Contains(st, "count(") {
			t.Errorf("%s\n\tdoes not name its columns", st)
		}
	}
}

// TestWeaknessesAreAddedUpOfFacets: never of single findings, and of few facets
// where few are asked for.
func TestWeaknessesAreAddedUpOfFacets(t *testing.T) {
	for _, c := range []struct {
		name string
		q    store.VulnerabilityQuery
		want string
	}{
		{"all", store.VulnerabilityQuery{}, ""},
		{"filtered", store.VulnerabilityQuery{Severity: finding.High, Running: true, Text: "x"}, ""},
		{"one weakness", store.VulnerabilityQuery{ID: "w"}, "facets_weakness"},
		{"one package", store.VulnerabilityQuery{Package: "p"}, "facets_package"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
			useImages(t, d)
			d.Forget()
			if _, err := d.Weaknesses(t.Context(), c.q); err != nil {
				t.Fatal(err)
			}
			var plan string
			for _, st := range d.Statements() {
				if !strings.HasPrefix(st, "SELECT v.number") && !strings.HasPrefix(st, "SELECT i.running") {
					continue
				}
				steps, err := d.Explain(t.Context(), st)
				if err != nil {
					t.Fatal(err)
				}
				plan += strings.Join(steps, "\n") + "\n"
			}
			if !strings.Contains(plan, c.want) || strings.Contains(plan, "vulnerabilities") || !strings.Contains(plan, "SEARCH i USING INDEX") && c.want == "" {
				t.Errorf("plan\n%s", plan)
			}
		})
	}
}

func excused(statement string) bool {
	for prefix := range mayScan {
		if strings.HasPrefix(statement, prefix) {
			return true
		}
	}
	return false
}

// useEverything calls every method with every filter.
func useEverything(t *testing.T, d *db.DB, n int) {
	t.Helper()
	ctx := t.Context()
	must := mustOf(t)
	for _, nq := range append(consoleQueries(n), objectQueries()...) {
		_, err := d.Events(ctx, nq.q)
		must(err)
		nq.q.After = 1
		page, err := d.Events(ctx, nq.q)
		must(err)
		for _, e := range page.Events {
			_, err := d.Events(ctx, store.EventQuery{AgentID: e.AgentID, Process: e.Process.Key})
			must(err)
			_, err = d.Event(ctx, e.ID)
			must(err)
		}
	}
	_, err := d.Notable(ctx, fleetStart, 5)
	must(err)
	for _, step := range []time.Duration{time.Minute, time.Hour} {
		_, err = d.EventRate(ctx, workloadID(1, 1), fleetStart, fleetStart.Add(time.Hour), step)
		must(err)
	}
	useWorkloads(t, d)
	useImages(t, d)
	useAccess(t, d)
	useEnrolment(t, d)
	useFlows(t, d)
	useTrust(t, d)
	useAdmission(t, d)
	useResponse(t, d)
	useDetection(t, d)
	useBehaviour(t, d)
	useIncidents(t, d)
	_, err = d.Health(ctx)
	must(err)
	_, err = d.Prune(ctx, store.Retention{
		Events: time.Hour, MaxEvents: int64(n / 2), Workloads: time.Hour, Audit: time.Hour,
	}, fleetStart.Add(time.Hour+time.Minute))
	must(err)
}

func useWorkloads(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	if err := d.PutWorkloads(ctx, []asset.Workload{{ID: "w"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Workload(ctx, "w"); err != nil {
		t.Fatal(err)
	}
	for _, q := range []store.WorkloadQuery{
		{}, {After: "w"}, {AgentID: "a"}, {Group: "g"}, {Cluster: "c"}, {ImageID: "i"}, {ImageID: "i", States: []asset.State{asset.Running}}, {States: []asset.State{asset.Running}}, {States: []asset.State{asset.Exited, asset.Lost}},
		{Text: "x"}, {AgentID: "a", Group: "g", Cluster: "c", Text: "x", After: "w"},
	} {
		if _, err := d.Workloads(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.PutAgent(ctx, asset.Agent{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Agent(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Agents(ctx); err != nil {
		t.Fatal(err)
	}
}

// useFindings asks all about secrets and faults, of image i.
func useFindings(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, must := t.Context(), mustOf(t)
	for _, title := range []string{"one", "two", ""} {
		fs := []store.Finding{{Kind: store.KindSecret, Key: "k", Title: title}}
		if title == "" {
			fs = nil
		}
		must(d.PutFindings(ctx, store.ImageFindings{ImageID: "i", Findings: fs}))
		must(d.NoteTrend(ctx, fleetStart))
		for _, q := range []store.FindingQuery{{}, {ImageID: "i"}, {Key: "k"}, {Severity: finding.Low, Running: true, Owner: "x", Text: "o"}} {
			q.Kind = store.KindSecret
			_, err := d.FindingsIn(ctx, q)
			must(err)
			_, err = d.FindingLines(ctx, q)
			must(err)
		}
	}
	_, err := d.Trend(ctx, store.KindSecret, fleetStart)
	must(err)
	must(d.PutOwners(ctx, asset.Owners{{Image: "x"}}))
	_, err = d.Owners(ctx)
	must(err)
	must(d.PutImageOwners(ctx, map[string]string{"i": "x"}))
	_, err = d.OwnedImages(ctx, "a")
	must(err)
	_, err = d.Images(ctx, store.ImageQuery{Owner: "x"})
	must(err)
	_, err = d.Weaknesses(ctx, store.VulnerabilityQuery{Owner: "x"})
	must(err)
}

func useImages(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, must := t.Context(), mustOf(t)
	must(d.PutWorkloads(ctx, []asset.Workload{{ID: "v", AgentID: "a", Image: asset.Image{ID: "i"}}}))
	for _, reference := range []string{"one", "two"} {
		_, err := d.NoteImages(ctx, []store.Image{{ID: "i", References: []string{reference}}}, fleetStart)
		must(err)
	}
	lease := func(job string) {
		t.Helper()
		_, err := d.LeaseScan(ctx, store.Lease{AgentID: "a", Job: job, Now: fleetStart.Add(time.Hour), Until: fleetStart.Add(time.Hour)})
		must(err)
	}
	lease("one")
	must(d.MoveScanEnd(ctx, "i", "one", fleetStart))
	must(d.ScanFailed(ctx, "i", "one", "x", fleetStart))
	lease("again")
	must(d.ScanFailed(ctx, "i", "again", "x", time.Time{}))
	must(d.ScanAgain(ctx, "i", fleetStart))
	lease("two")
	must(d.PutInventory(ctx, "i", "two", inventory.Inventory{}, fleetStart))
	for _, severity := range []finding.Severity{finding.High, finding.Low} {
		v := finding.Vulnerability{ID: "w", Aliases: []string{"x"}, Severity: severity, Fingerprint: "f"}
		must(d.PutFindings(ctx, store.ImageFindings{ImageID: "i", Vulnerabilities: []finding.Vulnerability{v}}))
	}
	useFindings(t, d)
	_, err := d.NoteUses(ctx, "i", []string{"/a"})
	must(err)
	_, err = d.Uses(ctx, "i")
	must(err)
	_, err = d.Image(ctx, "i")
	must(err)
	_, err = d.Inventory(ctx, "i")
	must(err)
	for _, q := range []store.ImageQuery{{}, {Text: "o"}, {State: store.ScanDone}, {Running: true}, {After: "i"}, {Text: "o", State: store.ScanDone, Running: true, After: "i"}} {
		_, err := d.Images(ctx, q)
		must(err)
	}
	for _, q := range []store.VulnerabilityQuery{
		{}, {ImageID: "i"}, {ID: "w"}, {Package: "p"}, {Severity: finding.Low}, {Fixable: true, Exploited: true, InUse: true},
		{Running: true}, {Accepted: true}, {Text: "x"}, {ImageID: "i", Package: "p", Running: true, Text: "x"},
	} {
		_, err := d.Vulnerabilities(ctx, q)
		must(err)
		_, err = d.Weaknesses(ctx, q)
		must(err)
	}
	must(d.PutFindings(ctx, store.ImageFindings{ImageID: "i"}))
	_, err = d.Unmatched(ctx, "g", 5)
	must(err)
	_, err = d.ScanTotals(ctx, "g", 1)
	must(err)
	_, _, err = d.SweepGone(ctx, store.Gone{Silent: []string{"a"}, Before: fleetStart, Now: fleetStart})
	must(err)
	acc, err := d.PutAcceptance(ctx, store.Acceptance{Vulnerability: "w"})
	must(err)
	_, err = d.PutAcceptance(ctx, acc)
	must(err)
	_, err = d.Acceptance(ctx, acc.ID)
	must(err)
	_, err = d.Acceptances(ctx)
	must(err)
}

func useFlows(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, must := t.Context(), mustOf(t)
	for _, q := range []store.FlowQuery{
		{}, {WorkloadID: workloadID(1, 1)}, {Group: groupName(1, 1)}, {WorkloadID: workloadID(1, 1), Group: groupName(1, 1)},
	} {
		q.Since = fleetStart
		_, err := d.Flows(ctx, q)
		must(err)
	}
	old := fleetStart.Add(-48 * time.Hour)
	must(d.PutSamples(ctx, []asset.Sample{
		{WorkloadID: "w", Time: old}, {WorkloadID: "w", Time: fleetStart.Add(time.Minute)}, {WorkloadID: "x", Time: fleetStart.AddDate(1, 0, 0)},
	}))
	for _, step := range []time.Duration{0, time.Minute} {
		_, err := d.Samples(ctx, "w", old, fleetStart, step)
		must(err)
	}
	_, err := d.Prune(ctx, store.Retention{}, fleetStart) // thins out
	must(err)
}

func useEnrolment(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, must := t.Context(), mustOf(t)
	must(d.PutAgentSettings(ctx, "a", asset.AgentSettings{Window: 1}))
	_, err := d.AgentSettings(ctx, "a")
	must(err)
	must(d.PutAgentSettings(ctx, "a", asset.AgentSettings{}))
	i, err := d.PutInvitation(ctx, access.Invitation{Hash: []byte{3}, Expires: fleetStart.Add(1)})
	must(err)
	_, err = d.PutInvitation(ctx, i)
	must(err)
	_, err = d.UseInvitation(ctx, []byte{3}, "a", fleetStart)
	must(err)
	_, err = d.Invitations(ctx)
	must(err)
	must(d.PutCertificate(ctx, access.Certificate{Serial: "1", AgentID: "a"}))
	for _, agent := range []string{"", "a"} {
		_, err = d.Certificates(ctx, agent)
		must(err)
	}
	_, err = d.RevokeCertificates(ctx, "a", fleetStart)
	must(err)
}

func mustOf(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func useAccess(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, must := t.Context(), mustOf(t)
	u, err := d.CreateUser(ctx, access.User{Name: "anna", Role: access.Administrator})
	must(err)
	must(d.UpdateUser(ctx, u))
	_, err = d.User(ctx, u.ID)
	must(err)
	_, err = d.UserByName(ctx, u.Name)
	must(err)
	_, err = d.Users(ctx)
	must(err)
	must(d.PutSession(ctx, access.Session{Hash: []byte{1}, UserID: u.ID}))
	_, err = d.Session(ctx, []byte{1}, fleetStart)
	if err == nil {
		t.Error("an expired session was returned")
	}
	must(d.DeleteSessions(ctx, []byte{1}, u.ID))
	must(d.DeleteSessions(ctx, nil, u.ID))
	tok, err := d.PutToken(ctx, access.Token{Name: "ci", Owner: "anna", Hash: []byte{2}})
	must(err)
	_, err = d.PutToken(ctx, tok)
	must(err)
	for _, q := range []store.TokenQuery{{}, {ID: 1}, {Owner: "anna"}, {Hash: []byte{2}}} {
		_, err = d.Tokens(ctx, q)
		must(err)
	}
	must(d.DeleteToken(ctx, tok.ID))
	must(d.AppendAudit(ctx, access.Audit{Action: "x"}))
	for _, before := range []int64{0, 5} {
		_, err = d.Audit(ctx, before, 3)
		must(err)
	}
}
