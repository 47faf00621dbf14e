#include <gtest/gtest.h>

#include "client/terminal/line.h"
#include "client/terminal/painter.h"
#include "client/terminal/table.h"
#include "tests/client/terminal/screen.h"

namespace loadstar::client::terminal {
namespace {

TEST(Line, IsCutByColumnsAndNotByBytes) {
  const Line line = Line("gr\xc3\xbc\xc3\x9f", Style::kBold).Add(" gott");
  EXPECT_EQ(line.width(), 9u);
  EXPECT_EQ(line.Render(3, false), "gr\xc3\xbc");
  EXPECT_EQ(line.Render(6, false), "gr\xc3\xbc\xc3\x9f g");
  EXPECT_EQ(line.text(), "gr\xc3\xbc\xc3\x9f gott");
}

TEST(Line, HasCodesOnlyInColourAndNoneAroundNothing) {
  const Line line = Line("ab", Style::kBad).Add("cd", Style::kGood);
  EXPECT_EQ(line.Render(2, true), "\x1b[31mab\x1b[0m");
  EXPECT_EQ(line.Render(9, false), "abcd");
}

TEST(Table, AlignsColumnsAndShowsEmptyCellsAsAbsent) {
  Table table({{"NODE"}, {"OPEN", Table::Align::kRight}, {"NOTE"}});
  table.Add({"node1", "25,000", ""});
  table.Add({"n2", "7", "bad\nnews"});
  EXPECT_EQ(table.Text(),
            "NODE     OPEN  NOTE\n"
            "node1  25,000  -\n"
            "n2          7  bad news\n");
}

TEST(Painter, RedrawsInPlaceAndLeavesNothingOfLongerFrames) {
  Painter painter(false);
  Screen screen(20);
  screen.Write("before\n");
  screen.Write(painter.Frame({Line("a long first line"), Line("second"), Line("third")}, 20));
  screen.Write(painter.Frame({Line("short"), Line("2")}, 20));
  EXPECT_EQ(screen.Text(), "before\nshort\n2\n");
  screen.Write("after\n");
  EXPECT_EQ(screen.Text(), "before\nshort\n2\nafter\n");
  EXPECT_EQ(screen.unknown(), "");
}

TEST(Painter, CutsLinesSoThatNoneWraps) {
  Painter painter(false);
  Screen screen(10);
  screen.Write(painter.Frame({Line("0123456789abcdef"), Line("x")}, 10));
  screen.Write(painter.Frame({Line("0123456789abcdef"), Line("y")}, 10));
  EXPECT_EQ(screen.Text(), "012345678\ny\n");
}

TEST(Painter, FindsTheTopAgainWhenTheTerminalBecameNarrower) {
  // The terminal has wrapped the 15 columns of each old line into two rows of 10.
  Painter painter(false);
  Screen screen(10);
  screen.Write("before\n");
  painter.Frame({Line("0123456789abcde"), Line("0123456789abcde")}, 20);
  screen.Write("0123456789abcde\n0123456789abcde\n");
  screen.Write(painter.Frame({Line("new")}, 10));
  EXPECT_EQ(screen.Text(), "before\nnew\n");
}

TEST(Painter, ErasesItsBlockForADiagnosticAboveIt) {
  Painter painter(true);
  Screen screen(20);
  screen.Write(painter.Frame({Line("one"), Line("two", Style::kGood)}, 20));
  screen.Write(painter.Erase(20) + "note\n");
  screen.Write(painter.Frame({Line("one"), Line("three")}, 20));
  EXPECT_EQ(screen.Text(), "note\none\nthree\n");
}

TEST(Painter, NeverHidesTheCursor) {
  Painter painter(true);
  EXPECT_EQ(painter.Frame({Line("x")}, 20).find("?25"), std::string::npos);
}

}  // namespace
}  // namespace loadstar::client::terminal
