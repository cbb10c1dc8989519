# Values that test_multiplicity.py and test_moderation.py hold. Debian: r-base-core, r-bioc-limma.
p <- c(0.00021, 0.0009, 0.004, 0.011, 0.0112, 0.03, 0.041, 0.26, 0.5, 0.97)
for (m in c("holm", "BH", "BY")) cat(m, format(p.adjust(p, m), digits = 12), "\n")
x <- c(71.2, 69.8, 70.4, 72.9, 70.1); y <- c(68.8, 69.9, 69.1)
w <- t.test(x, y); cat("welch", format(c(w$p.value, w$parameter, w$conf.int), digits = 12), "\n")
u <- t.test(x, y, var.equal = TRUE)
cat("pooled", format(c(u$p.value, u$parameter, u$conf.int), digits = 12), "\n")
lower <- t.test(x, y, mu = -4, alternative = "greater")$p.value
upper <- t.test(x, y, mu = 4, alternative = "less")$p.value
cat("tost", format(max(lower, upper), digits = 12), "\n")
d <- data.frame(score = c(71.2, 69.8, 70.4, 68.1, 69.0, 67.7, 70.0, 70.9, 69.2, 69.6, 68.4, 70.3),
                arm = rep(c("v", "t"), each = 6), condition = rep(rep(c("with", "without"), each = 3), 2))
a <- summary(aov(score ~ arm * condition, d))[[1]]
cat("interaction", format(c(a[3, "F value"], a[3, "Pr(>F)"], a[4, "Df"]), digits = 12), "\n")
suppressMessages(library(limma))
s2 <- c(0.31, 0.9, 1.7, 0.45, 5.2, 0.08, 2.4, 0.77, 1.1, 12.9)
df <- c(8, 8, 4, 8, 2, 8, 8, 6, 8, 3)
show <- function(s2, df) {
  q <- squeezeVar(s2, df)
  cat("limma", format(c(q$df.prior, q$var.prior), digits = 12), "|", format(q$var.post, digits = 12), "\n")
}
show(s2, df)
show(s2, 8)
show(c(1.0, 1.1, 0.9, 1.05, 0.97), 8)
# two groups as a covariate: a line through two means; limma's trend knows nothing that the groups' cells share
group <- c(1, 1, 1, 1, 2, 1, 2, 2, 1, 2)
q <- squeezeVar(s2, df, covariate = group)
cat("limma, groups", format(c(q$df.prior[1], tapply(q$var.prior, group, mean)), digits = 12), "|", format(q$var.post, digits = 12), "\n")
# three groups, a curve through three means; the levels are squeezed in turn, on 6, 9 and 14 df
group <- c(1, 1, 1, 2, 3, 2, 3, 3, 2, 3)
q <- squeezeVar(s2, df, covariate = group)
above <- squeezeVar(tapply(q$var.prior, group, mean), c(6, 9, 14))
cat("limma, levels", format(c(q$df.prior[1], above$df.prior, above$var.post), digits = 12), "\n")
