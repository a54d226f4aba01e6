package feeds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
)

const (
	// epssFile is the name of the scores in their folder.
	epssFile = "epss_scores-current.csv.gz"
	// maxEPSS is what it may unpack to: it has 10 MB, a line a CVE.
	maxEPSS = 256 << 20
)

// Probabilities hands over FIRST's exploit prediction scores, from their folder
// in fsys. Lines that are none count as broken.
func Probabilities(ctx context.Context, fsys fs.FS, tally *Tally) iter.Seq2[advisory.Probability, error] {
	return func(yield func(advisory.Probability, error) bool) {
		source, _ := Named("epss")
		name := source.Dir + "/" + epssFile
		tally.Documents++
		err := readEPSS(fsys, name, tally, func(p advisory.Probability) bool { return yield(p, nil) && ctx.Err() == nil })
		if err != nil {
			tally.count(name, err)
			yield(advisory.Probability{}, fmt.Errorf("read %s: %w", name, err))
		}
	}
}

func readEPSS(fsys fs.FS, name string, tally *Tally, give func(advisory.Probability) bool) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	plain, done, err := decompress(f)
	if err != nil {
		return err
	}
	defer done()
	return scanEPSS(&bounded{r: plain, left: maxEPSS}, tally, give)
}

// scanEPSS reads the scores:
//
//	#model_version:v2025.03.14,score_date:2025-08-25T12:55:00Z
//	cve,epss,percentile
//	CVE-1999-0001,0.01297,0.78615
func scanEPSS(r io.Reader, tally *Tally, give func(advisory.Probability) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4096)
	var date time.Time
	header := false
	for lines.Scan() {
		line := lines.Text()
		tally.Bytes += int64(len(line)) + 1
		switch {
		case strings.HasPrefix(line, "#"):
			if _, d, ok := strings.Cut(line, "score_date:"); ok {
				date = parseTime(strings.TrimSpace(d))
				tally.saw(date)
			}
		case line == "":
		case !header:
			if header = strings.HasPrefix(line, "cve,epss"); !header {
				return fmt.Errorf("the first line is %.60q, want cve,epss,percentile", line)
			}
		default:
			p, err := score(line)
			if err != nil {
				tally.fail(fmt.Sprintf("line %.60q", line), err)
				continue
			}
			p.Date = date
			tally.Advisories++
			if !give(p) {
				return nil
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !header {
		return errors.New("no scores")
	}
	return nil
}

func score(line string) (advisory.Probability, error) {
	cve, rest, _ := strings.Cut(line, ",")
	epss, rest, _ := strings.Cut(rest, ",")
	percentile, _, _ := strings.Cut(rest, ",")
	if !isCVE(cve) {
		return advisory.Probability{}, errors.New("not a CVE number")
	}
	e, err := share(epss)
	if err != nil {
		return advisory.Probability{}, err
	}
	p, err := share(percentile)
	return advisory.Probability{CVE: strings.Clone(cve), EPSS: e, Percentile: p}, err
}

// share reads a number from 0 to 1.
func share(s string) (float32, error) {
	v, err := strconv.ParseFloat(s, 32)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%.20q is no number from 0 to 1", s)
	}
	return float32(v), nil
}
