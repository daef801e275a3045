package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// What a frame carries. A connection is a request followed by frames in both directions.
const (
	frameRequest = iota // JSON
	frameStdin          // empty: end of input
	frameSignal         // one byte
	frameStdout
	frameStderr
	frameExit // one byte, the last frame
)

const maxFrame = 1 << 20

// request is what a client asks for. The token is in a file that only root can read, on the machine
// and, through its view of the machine's files, on the node; a pod has neither.
type request struct {
	Token string
	Argv  []string
	Dir   string
}

// link writes frames for several goroutines at once.
type link struct {
	conn net.Conn
	mu   sync.Mutex
}

func (l *link) send(kind byte, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := make([]byte, 5, 5+len(data))
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	_, err := l.conn.Write(append(head, data...))
	return err
}

func (l *link) receive() (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(l.conn, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", size)
	}
	data := make([]byte, size)
	_, err := io.ReadFull(l.conn, data)
	return head[0], data, err
}

// stream is an io.Writer whose writes become frames of one kind.
type stream struct {
	link *link
	kind byte
}

func (s stream) Write(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	return len(data), s.link.send(s.kind, data)
}
