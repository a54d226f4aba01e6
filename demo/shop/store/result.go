package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Object ids of PostgreSQL's types, from its pg_type.dat.
const (
	oidInt8   = 20
	oidInt2   = 21
	oidInt4   = 23
	oidText   = 25
	oidFloat4 = 700
	oidFloat8 = 701
)

const binaryFormat = 1

// A result is what a statement gave.
type result struct {
	columns  []column // nil for a statement that gives no rows
	rows     [][]any  // int64, float64, string or nil
	affected int64
}

type column struct {
	name string
	oid  uint32
}

func (r result) count() int64 {
	if r.columns != nil {
		return int64(len(r.rows))
	}
	return r.affected
}

// execute runs one statement and follows the transaction that it may open or
// end.
func (s *session) execute(ctx context.Context, statement []token, args []any) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	switch v := verb(statement); v {
	case "", "SET", "DEALLOCATE", "DISCARD":
		return result{}, nil
	case "SELECT", "VALUES", "WITH", "EXPLAIN", "PRAGMA":
		return s.query(ctx, statement, args)
	case "INSERT", "UPDATE", "DELETE":
		if has(statement, "returning") {
			return s.query(ctx, statement, args)
		}
		return s.exec(ctx, statement, args)
	case "ATTACH", "VACUUM":
		// Both name files: SQLite's own holes are not the shop's.
		return result{}, fmt.Errorf("%s is not supported", v)
	case "BEGIN", "START", "COMMIT", "END", "ROLLBACK":
		return s.transaction(ctx, v)
	default:
		return s.exec(ctx, statement, args)
	}
}

func (s *session) exec(ctx context.Context, statement []token, args []any) (result, error) {
	done, err := s.db.ExecContext(ctx, translate(statement), args...)
	if err != nil {
		return result{}, err
	}
	n, err := done.RowsAffected()
	return result{affected: n}, err
}

// transaction begins or ends one; what PostgreSQL only warns about (ending
// none, beginning another) passes.
func (s *session) transaction(ctx context.Context, verb string) (result, error) {
	begins := verb == "BEGIN" || verb == "START"
	if begins == (s.status == 'T') {
		return result{}, nil
	}
	text, status := "COMMIT", byte('I')
	switch {
	case begins:
		text, status = "BEGIN", 'T'
	case verb == "ROLLBACK":
		text = "ROLLBACK"
	}
	if _, err := s.db.ExecContext(ctx, text); err != nil {
		return result{}, err
	}
	s.status = status
	return result{}, nil
}

// rollback ends what a client left open, so that the connection can serve
// another. Its context may be gone, therefore it has its own.
func (s *session) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	if _, err := s.transaction(ctx, "ROLLBACK"); err != nil {
		// The connection is unusable; make the pool throw it away.
		_ = s.db.Raw(func(any) error { return errors.New("bad connection") })
	}
}

func (s *session) query(ctx context.Context, statement []token, args []any) (result, error) {
	rows, err := s.db.QueryContext(ctx, translate(statement), args...)
	if err != nil {
		return result{}, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return result{}, err
	}
	types, err := rows.ColumnTypes()
	if err != nil {
		return result{}, err
	}
	r := result{columns: make([]column, len(names))}
	for rows.Next() {
		if len(r.rows) == maxRows {
			return result{}, fmt.Errorf("answer has more than %d rows", maxRows)
		}
		values, targets := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return result{}, err
		}
		r.rows = append(r.rows, values)
	}
	if err := rows.Err(); err != nil {
		return result{}, err
	}
	for i, name := range names {
		r.columns[i] = column{name, r.typeOf(i, types[i].DatabaseTypeName())}
	}
	return r, nil
}

// typeOf returns the type of a column by its values, which in SQLite are what
// has a type: a number only if all are, text if in doubt. A column without
// values has the type that its table declares.
func (r result) typeOf(i int, declared string) uint32 {
	oid := uint32(0)
	for _, row := range r.rows {
		of := uint32(oidText)
		switch row[i].(type) {
		case nil:
			continue
		case int64:
			of = oidInt8
		case float64:
			of = oidFloat8
		}
		if oid != 0 && oid != of {
			return oidText
		}
		oid = of
	}
	switch {
	case oid != 0:
		return oid
	case declared == "INTEGER":
		return oidInt8
	case declared == "REAL":
		return oidFloat8
	}
	return oidText
}

func (r result) description(formats []int16) *pgproto3.RowDescription {
	d := &pgproto3.RowDescription{}
	for i, c := range r.columns {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{
			Name: []byte(c.name), DataTypeOID: c.oid, DataTypeSize: -1, TypeModifier: -1, Format: format(formats, i),
		})
	}
	return d
}

func (r result) dataRow(row []any, formats []int16) *pgproto3.DataRow {
	d := &pgproto3.DataRow{Values: make([][]byte, len(row))}
	for i, v := range row {
		d.Values[i] = encode(v, r.columns[i].oid, format(formats, i) == binaryFormat)
	}
	return d
}

// format returns the format of field i: none given means text, one given
// stands for all.
func format(formats []int16, i int) int16 {
	switch {
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return 0
}

func encode(v any, oid uint32, inBinary bool) []byte {
	switch v := v.(type) {
	case nil:
		return nil
	case int64:
		if inBinary && oid == oidInt8 {
			return binary.BigEndian.AppendUint64(nil, uint64(v))
		}
	case float64:
		if inBinary && oid == oidFloat8 {
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(v))
		}
	case []byte:
		return v
	}
	// The wire is UTF-8 throughout, whatever was stored.
	return []byte(strings.ToValidUTF8(fmt.Sprint(v), "\uFFFD"))
}

// decode turns the parameters of m into values by their types.
func decode(oids []uint32, m *pgproto3.Bind) ([]any, error) {
	if len(m.Parameters) != len(oids) {
		return nil, fmt.Errorf("bind has %d parameters, the statement %d", len(m.Parameters), len(oids))
	}
	args := make([]any, len(oids))
	for i, p := range m.Parameters {
		if p == nil {
			continue
		}
		var err error
		if args[i], err = decodeOne(oids[i], p, format(m.ParameterFormatCodes, i) == binaryFormat); err != nil {
			return nil, fmt.Errorf("parameter $%d: %w", i+1, err)
		}
	}
	return args, nil
}

func decodeOne(oid uint32, p []byte, inBinary bool) (any, error) {
	switch oid {
	case oidInt2, oidInt4, oidInt8:
		if inBinary {
			return decodeInt(p)
		}
		return strconv.ParseInt(string(p), 10, 64)
	case oidFloat4, oidFloat8:
		switch {
		case inBinary && len(p) == 8:
			return math.Float64frombits(binary.BigEndian.Uint64(p)), nil
		case inBinary && len(p) == 4:
			return float64(math.Float32frombits(binary.BigEndian.Uint32(p))), nil
		}
		return strconv.ParseFloat(string(p), 64)
	}
	return string(p), nil
}

func decodeInt(p []byte) (int64, error) {
	switch len(p) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(p))), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(p))), nil
	case 8:
		return int64(binary.BigEndian.Uint64(p)), nil
	}
	return 0, fmt.Errorf("an integer of %d bytes", len(p))
}
