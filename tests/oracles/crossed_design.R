# The crossed mixed model for the data sets of crossed_design.py: estimate, standard error and Satterthwaite
# df of the arm x condition interaction. Debian: apt-get install r-base-core r-cran-lme4 r-cran-lmertest
suppressMessages(library(lmerTest))
folder <- commandArgs(trailingOnly = TRUE)[1]
for (path in sort(list.files(folder, pattern = "csv$", full.names = TRUE))) {
  d <- read.csv(path, colClasses = c(run = "character"))
  d$A <- d$arm - 0.5
  d$C <- d$condition - 0.5
  d$AC <- d$A * d$C
  fit <- lmer(score ~ A * C + (1 | run) + (1 | language) + (0 + A | language) + (0 + C | language)
              + (0 + AC | language), data = d,
              control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 2e-4, rhoend = 2e-9)))
  row <- coef(summary(fit))["A:C", ]
  cat(sprintf('    "%s": (%.10f, %.10f, %.6f),  # singular: %s\n', sub(".csv", "", basename(path)),
              row["Estimate"], row["Std. Error"], row["df"], isSingular(fit)))
}
